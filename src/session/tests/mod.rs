//! Tests a session against an engine that fails, stalls or answers late at each call, and with a client that is killed
//! or interrupted at each call. In every case nothing of the sandbox may remain.

mod data;
mod stage;

use std::future::Future;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use self::stage::Stage;
use super::lifecycle::control::{LoopEvent, StopReason};
use super::lifecycle::run::{Outcome, Purpose};
use crate::engine::ErrorKind;
use crate::engine::recording::Fault;

/// Runs a test on its own stage, with a clock that advances when all tasks wait. Returns its result.
fn scene<T, F: Future<Output = T>>(play: impl FnOnce(Stage) -> F) -> T {
    scene_on(stage::SHOP, play)
}

/// The same with another spec.
fn scene_on<T, F: Future<Output = T>>(spec: &str, play: impl FnOnce(Stage) -> F) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { play(Stage::set(spec)).await })
}

/// The number of calls that a client makes in a complete session.
fn calls_of_a_session() -> usize {
    scene(|stage| async move {
        let outcome = Box::pin(stage.in_time(stage.run())).await.unwrap();
        assert!(matches!(outcome, Outcome::Ended(StopReason::CommandEnded(0))), "{outcome:?}");
        assert_eq!(stage.remains().await, Vec::<String>::new());
        stage.client.calls().len()
    })
}

#[test]
fn whichever_call_of_a_session_fails_nothing_is_left() {
    let calls = calls_of_a_session();
    let faults = [
        Fault::Refuse(ErrorKind::Other),
        Fault::Refuse(ErrorKind::NotFound),
        Fault::Refuse(ErrorKind::Unreachable),
        Fault::LoseAnswer,
    ];
    for fault in faults {
        for n in 1..=calls {
            scene(|stage| async move {
                stage.client.fail_at(n, fault);
                let outcome = Box::pin(stage.in_time(stage.run())).await;
                assert_eq!(
                    stage.remains().await,
                    Vec::<String>::new(),
                    "{fault:?} at {n}, `{}`, ended in {outcome:?}",
                    stage.client.calls()[n - 1]
                );
            });
        }
    }
}

#[test]
fn what_a_second_attempt_of_a_first_up_completes_is_not_taken_for_unfinished() {
    let spec = r#"
services:
  app: { image: app:1, ports: ["8080"], configs: [colour], post_start: [{ command: [say, hello] }] }
configs: { colour: { content: blue } }
"#;
    scene_on(spec, |stage| async move {
        stage.client.fail_when("start container sbx-shop", 1, Fault::Refuse(ErrorKind::PortTaken));
        Box::pin(stage.in_time(stage.up())).await.unwrap();
        stage.client.forget_calls();
        Box::pin(stage.in_time(stage.up())).await.unwrap();
        let calls = stage.client.calls();
        assert!(!calls.iter().any(|call| call.starts_with("remove")), "{calls:?}");
    });
}

#[test]
fn whichever_call_of_a_session_is_performed_after_all_nothing_is_left() {
    for n in 1..=calls_of_a_session() {
        scene(|stage| async move {
            stage.client.fail_at(n, Fault::Late { calls: usize::MAX / 2 });
            let outcome = Box::pin(stage.in_time(stage.run())).await;
            stage.client.land_late_calls();
            assert_eq!(
                stage.finally_remains().await,
                Vec::<String>::new(),
                "late at {n}, ended in {outcome:?}"
            );
        });
    }
}

#[test]
fn wherever_a_session_loses_the_engine_for_good_the_keeper_leaves_nothing() {
    for n in 1..=calls_of_a_session() {
        scene(|stage| async move {
            stage.client.fail_from(n, Fault::Refuse(ErrorKind::Unreachable));
            let outcome = Box::pin(stage.in_time(stage.run())).await;
            assert_eq!(stage.remains().await, Vec::<String>::new(), "from {n} on, ended in {outcome:?}");
        });
    }
}

#[test]
fn a_client_that_is_killed_before_or_after_any_of_its_calls_leaves_nothing() {
    for (last, others) in [(Fault::Stall, 0), (Fault::StallDone, 1)] {
        for n in 1..=calls_of_a_session() {
            scene(|stage| async move {
                stage.client.fail_at(n, last);
                stage.client.fail_from(n + others, Fault::Stall);
                {
                    let session = stage.run();
                    tokio::pin!(session);
                    tokio::select! {
                        () = stage.client.called(n) => {}
                        _ = &mut session => {}
                    }
                    stage.kill_client();
                }
                assert_eq!(stage.finally_remains().await, Vec::<String>::new(), "{last:?} at {n}");
            });
        }
    }
}

#[test]
fn ctrl_c_after_any_call_leaves_nothing_once_the_session_has_ended() {
    for n in 1..=calls_of_a_session() {
        scene(|stage| async move {
            let client = std::sync::Arc::clone(&stage.client);
            let interrupted = stream::once(async move {
                client.called(n).await;
                LoopEvent::Interrupted
            });
            let purpose = Purpose::Command(Box::new(|_| Box::pin(async { 0 })));
            let signals = interrupted.chain(stream::pending()).boxed();
            let outcome = Box::pin(stage.in_time(stage.session(purpose, signals))).await;
            assert_eq!(stage.remains().await, Vec::<String>::new(), "Ctrl-C after {n}: {outcome:?}");
        });
    }
}

/// The number of calls that client and keeper make for a `down`.
fn calls_of_a_down() -> (usize, usize) {
    scene(|stage| async move {
        Box::pin(stage.in_time(stage.up())).await.unwrap();
        stage.client.forget_calls();
        stage.keeper.forget_calls();
        assert_eq!(Box::pin(stage.in_time(stage.down())).await.unwrap(), Vec::<String>::new());
        assert_eq!(stage.remains().await, Vec::<String>::new());
        (stage.client.calls().len(), stage.keeper.calls().len())
    })
}

#[test]
fn whichever_call_of_a_down_fails_a_second_down_leaves_nothing() {
    let (calls, _) = calls_of_a_down();
    for fault in [Fault::Refuse(ErrorKind::Other), Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer] {
        for n in 1..=calls {
            scene(|stage| async move {
                Box::pin(stage.in_time(stage.up())).await.unwrap();
                stage.client.forget_calls();
                stage.client.fail_at(n, fault);
                if Box::pin(stage.in_time(stage.down())).await.is_err() {
                    assert_eq!(Box::pin(stage.in_time(stage.down())).await.unwrap(), Vec::<String>::new());
                }
                assert_eq!(stage.remains().await, Vec::<String>::new(), "{fault:?} at {n}");
            });
        }
    }
}

#[test]
fn whichever_call_of_the_keeper_fails_during_a_down_nothing_is_left() {
    let (_, calls) = calls_of_a_down();
    let faults = [
        Fault::Refuse(ErrorKind::Other),
        Fault::Refuse(ErrorKind::InUse),
        Fault::LoseAnswer,
        Fault::Stall,
        Fault::StallDone,
        Fault::Late { calls: 3 },
    ];
    for fault in faults {
        for n in 1..=calls {
            scene(|stage| async move {
                Box::pin(stage.in_time(stage.up())).await.unwrap();
                stage.keeper.forget_calls();
                stage.keeper.fail_at(n, fault);
                let left = Box::pin(stage.in_time(stage.down())).await.unwrap();
                assert_eq!(left, Vec::<String>::new(), "{fault:?} at {n}");
                assert_eq!(stage.remains().await, Vec::<String>::new(), "{fault:?} at {n}");
            });
        }
    }
}

#[test]
fn what_a_keeper_cannot_remove_is_named_and_goes_once_the_engine_allows_it() {
    let (_, calls) = calls_of_a_down();
    for n in 1..=calls {
        scene(|stage| async move {
            Box::pin(stage.in_time(stage.up())).await.unwrap();
            stage.keeper.forget_calls();
            stage.keeper.fail_from(n, Fault::Refuse(ErrorKind::Other));
            let left = Box::pin(stage.in_time(stage.down())).await.unwrap();
            let remains = stage.remains().await;
            assert!(
                left.is_empty() == remains.is_empty(),
                "from {n} on: said {left:?}, there is {remains:?}"
            );
            stage.keeper.heal();
            assert_eq!(stage.finally_remains().await, Vec::<String>::new(), "from {n} on");
        });
    }
}

#[test]
fn whichever_call_of_a_second_up_fails_the_sandbox_stands_and_a_down_leaves_nothing() {
    let calls = scene(|stage| async move {
        Box::pin(stage.in_time(stage.up())).await.unwrap();
        stage.client.forget_calls();
        Box::pin(stage.in_time(stage.up())).await.unwrap();
        stage.client.calls().len()
    });
    for n in 1..=calls {
        scene(|stage| async move {
            Box::pin(stage.in_time(stage.up())).await.unwrap();
            let before = stage.remains().await;
            stage.client.forget_calls();
            stage.client.fail_at(n, Fault::Refuse(ErrorKind::Other));
            let outcome = Box::pin(stage.in_time(stage.up())).await;
            // Longer than the grace of the lost lease.
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(stage.remains().await, before, "at {n}: {outcome:?}");
            assert_eq!(Box::pin(stage.in_time(stage.down())).await.unwrap(), Vec::<String>::new());
            assert_eq!(stage.remains().await, Vec::<String>::new(), "at {n}");
        });
    }
}
