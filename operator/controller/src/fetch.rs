//! One question to a pod, and its answer as JSON. Pods are a tenant's: an answer is bounded, and may be anything.

use std::error::Error;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

pub type Failed = Box<dyn Error + Send + Sync>;

/// What an address answers to `GET`, if it is 200, of so many bytes at most, and of this type.
pub async fn fetch<T: DeserializeOwned>(address: SocketAddr, path: &str, bytes: usize) -> Result<T, Failed> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, address.to_string()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Failed::from(format!("the answer is {}", response.status())));
        }
        Ok(Limited::new(response.into_body(), bytes).collect().await?.to_bytes())
    };
    let (_closed, body) = futures::join!(connection, answer);
    Ok(serde_json::from_slice(&body?)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::Value;

    use super::*;

    const BYTES: usize = 1 << 10;

    /// Answers one request with these bytes.
    fn server(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert!(buffer[..read].starts_with(b"GET /what HTTP/1.1\r\n"));
            // A caller that has seen enough breaks off.
            let _broken = stream.write_all(&answer);
        });
        address
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn an_answer_is_read_and_one_that_is_none_is_refused() {
        let right = server(http("200 OK", r#"{"pod": "p"}"#));
        assert_eq!(fetch::<Value>(right, "/what", BYTES).await.unwrap()["pod"], "p");
        for wrong in [http("503 Service Unavailable", "{}"), http("200 OK", "<html>"), b"nonsense\r\n\r\n".to_vec()] {
            let address = server(wrong);
            assert!(fetch::<Value>(address, "/what", BYTES).await.is_err());
        }
        let long = server(http("200 OK", &" ".repeat(BYTES + 1)));
        let error = fetch::<Value>(long, "/what", BYTES).await.unwrap_err().to_string();
        assert!(error.contains("length limit"), "{error}");
    }
}
