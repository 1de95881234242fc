//! One client: reads its requests and writes its replies, one JSON object a line.

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::session::lend::protocol::{Reply, Request};
use crate::session::lend::server::Inbound;

/// The longest line of a request, in bytes.
const LONGEST: usize = 64 << 10;

/// How many replies may wait for a client that does not read.
const QUEUE: usize = 1024;

/// Serves a client until its connection is closed, by either side.
pub(super) async fn serve(
    client: u64,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    requests: mpsc::Sender<Inbound>,
) {
    let (replies, to_write) = mpsc::channel(QUEUE);
    // Nobody hears the client once the session ends.
    if requests.send(Inbound::Joined(client, replies)).await.is_err() {
        return;
    }
    tokio::select! {
        () = read(client, input, &requests) => {}
        () = write(output, to_write) => {}
    }
    let _ = requests.send(Inbound::Left(client)).await;
}

async fn read(client: u64, input: impl AsyncRead + Unpin, requests: &mpsc::Sender<Inbound>) {
    let mut lines = FramedRead::new(input, LinesCodec::new_with_max_length(LONGEST));
    while let Some(Ok(line)) = lines.next().await {
        if line.trim().is_empty() {
            continue;
        }
        let request = serde_json::from_str::<Request>(&line).map_err(|error| error.to_string());
        if requests.send(Inbound::Asked(client, request)).await.is_err() {
            return;
        }
    }
}

async fn write(mut output: impl AsyncWrite + Unpin, mut replies: mpsc::Receiver<Reply>) {
    while let Some(reply) = replies.recv().await {
        let Ok(mut line) = serde_json::to_vec(&reply) else { return };
        line.push(b'\n');
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}
