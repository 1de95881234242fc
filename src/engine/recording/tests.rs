use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::engine::{Attachment, CreateContainer, CreateNetwork, Engine, Filter, Mount};

async fn world() -> Arc<Recording> {
    let engine = Recording::with_images(&["app:1"]);
    engine.create_network(&CreateNetwork::bridge("n")).await.unwrap();
    let mut container = CreateContainer::new("c", "app:1");
    container.networks = vec![Attachment::new("n")];
    container.mounts = vec![Mount::volume("v", "/v")];
    engine.create_container(&container).await.unwrap();
    engine
}

#[tokio::test]
async fn what_is_in_use_cannot_be_removed() {
    let engine = world().await;
    engine.start_container("c").await.unwrap();
    assert_eq!(engine.remove_network("n").await.unwrap_err().kind, ErrorKind::InUse);
    assert_eq!(engine.remove_volume("v").await.unwrap_err().kind, ErrorKind::InUse);
    assert_eq!(engine.remove_container("c", false, true).await.unwrap_err().kind, ErrorKind::Conflict);
    engine.remove_container("c", true, true).await.unwrap();
    engine.remove_network("n").await.unwrap();
    engine.remove_volume("v").await.unwrap();
    assert_eq!(engine.objects(), Vec::<String>::new());
    assert!(engine.remove_volume("v").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_fault_comes_at_the_call_it_was_planned_for() {
    let engine = world().await;
    engine.forget_calls();
    engine.fail_at(2, Fault::Refuse(ErrorKind::Other));
    engine.start_container("c").await.unwrap();
    assert!(engine.stop_container("c", None, None).await.is_err());
    assert!(engine.container("c").await.unwrap().unwrap().state.is_alive());
    assert_eq!(engine.calls(), ["start container c", "stop container c", "inspect container c"]);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_thing_done_and_a_late_one_comes_after_all() {
    let engine = Recording::with_images(&["app:1"]);
    engine.fail_at(1, Fault::LoseAnswer);
    engine.fail_at(2, Fault::Late { calls: 2 });
    assert!(engine.create_container(&CreateContainer::new("a", "app:1")).await.is_err());
    assert!(engine.create_container(&CreateContainer::new("b", "app:1")).await.is_err());
    assert_eq!(engine.objects(), ["container a"]);
    engine.containers(&Filter::all()).await.unwrap();
    assert_eq!(engine.containers(&Filter::all()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn waiting_ends_when_the_container_does() {
    let engine = world().await;
    engine.start_container("c").await.unwrap();
    let waiting = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.wait_container("c").await }
    });
    tokio::task::yield_now().await;
    engine.exit("c", 3);
    assert_eq!(waiting.await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_command_may_talk() {
    let engine = world().await;
    engine.start_container("c").await.unwrap();
    engine.on_exec(|_, _| {
        Script::Serve(Box::new(|mut stdin, mut stdout| {
            tokio::spawn(async move {
                let mut word = [0; 4];
                stdin.read_exact(&mut word).await.unwrap();
                stdout.write_all(b"pong").await.unwrap();
            });
        }))
    });
    let exec = Exec { stdin: true, ..Exec::new(["talk"]) };
    let mut session = engine.exec("c", &exec).await.unwrap();
    session.input.write_all(b"ping").await.unwrap();
    assert_eq!(&session.output.next().await.unwrap().unwrap().bytes[..], b"pong");
    assert!(session.output.next().await.is_none());
    assert_eq!(engine.exec_exit_code(&session.id).await.unwrap(), Some(0));
}
