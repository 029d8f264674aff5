//! Asks a pod whether it can serve.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_millis(500);

/// True if the pod answers 200. Only the status is read.
pub async fn is_ready(address: SocketAddr, path: &str) -> bool {
    matches!(tokio::time::timeout(WITHIN, status(address, path)).await, Ok(Ok(200)))
}

/// True if the pod takes a connection.
pub async fn is_listening(address: SocketAddr) -> bool {
    matches!(tokio::time::timeout(WITHIN, TcpStream::connect(address)).await, Ok(Ok(_)))
}

async fn status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: millrace-router\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // HTTP/1.1 200
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let code = std::str::from_utf8(&line[9..]).ok().and_then(|code| code.parse().ok());
    Ok(code.filter(|_| line.starts_with(b"HTTP/1.")).unwrap_or_default())
}
