//! Lines of SMTP over a byte stream. Guarantee: only a line that ends in CRLF, and holds no other CR or LF, is taken as
//! one; anything else could smuggle a second mail past a laxer server (RFC 5321, section 2.3.8).

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    time::timeout,
};

/// The longest command: AUTH may be far longer than others (RFC 4954, section 4.5.3).
pub(super) const COMMAND_LIMIT: u64 = 12_288;
/// How long the relay waits for a line.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a dialogue can run over, in plain text or under TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection, read line by line.
pub(super) struct Wire<S>(BufReader<S>);

/// What was read.
pub(super) enum Line {
    /// A line without its CRLF.
    Whole(Vec<u8>),
    /// A line that breaks the rules, with the reply that says so.
    Faulty(&'static str),
    /// The peer has closed.
    End,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(super) fn into_inner(self) -> S {
        self.0.into_inner()
    }

    /// Whether bytes beyond the last line have been read already.
    pub(super) fn has_more(&self) -> bool {
        !self.0.buffer().is_empty()
    }

    /// The next line of at most `limit` bytes, CRLF included. A longer one is read to its end and dropped.
    pub(super) async fn line(&mut self, limit: u64) -> io::Result<Line> {
        timeout(PATIENCE, self.read_line(limit)).await?
    }

    async fn read_line(&mut self, limit: u64) -> io::Result<Line> {
        let mut too_long = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            (&mut self.0).take(limit).read_until(b'\n', &mut line).await?;
            if line.ends_with(b"\n") {
                break;
            }
            if (line.len() as u64) < limit {
                return Ok(Line::End);
            }
            too_long = true;
        }
        if too_long {
            return Ok(Line::Faulty("500 5.5.2 Line too long"));
        }
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.contains(&b'\r') => Ok(Line::Whole(text.to_vec())),
            _ => Ok(Line::Faulty("554 5.5.2 Bare CR or LF")),
        }
    }

    /// Sends a reply; its lines are parted by CRLF, the last has none.
    pub(super) async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.0.write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.0.flush().await
    }

    /// Closes in good order, with TLS's own farewell. Without it a TLS client sees a broken connection.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
