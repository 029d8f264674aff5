//! Bodies that are held whole: for later steps, for several steps, for an answer that is made of several. What is held of all requests
//! together has a bound, so that the router's memory stays within its own whatever callers and models send.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

/// Bytes that all graphs of a router hold at once: a quarter of the container's 256 MiB.
const BUDGET: usize = 64 << 20;
/// Where the JSON of a body with binary tensors ends.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What may be held, and what is.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    taken: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { max: BUDGET, taken: AtomicUsize::new(0) }
    }
}

impl Budget {
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
}

/// A part of the budget. Dropped, it is free.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Room {
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Takes more; false if there is not as much.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let took = self.budget.take(bytes);
        if took {
            self.bytes += bytes;
        }
        took
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A body.
#[derive(Clone, Debug)]
pub struct Held {
    pub bytes: Bytes,
    pub kind: Option<HeaderValue>,
    /// [`JSON_LENGTH`]: it goes wherever the bytes go, and nowhere else.
    pub json_length: Option<HeaderValue>,
    pub room: Arc<Room>,
}

/// Why a body is not held.
#[derive(Debug)]
pub enum Unheld<E> {
    TooLong,
    /// Other requests hold too much.
    NoRoom,
    Broken(E),
}

impl Held {
    /// What was made here. Nothing if there is no room for it.
    pub fn made(bytes: Vec<u8>, budget: &Arc<Budget>) -> Option<Self> {
        let mut room = Room::new(budget);
        let kind = Some(HeaderValue::from_static("application/json"));
        room.grow(bytes.len()).then(|| Self { bytes: bytes.into(), kind, json_length: None, room: Arc::new(room) })
    }

    /// Says of the body what is so, and nothing of another one.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in [(CONTENT_TYPE, &self.kind), (JSON_LENGTH, &self.json_length)] {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
    }

    /// Reads a body of at most so many bytes to its end. `said` is what its sender says of it.
    pub async fn read<B>(
        body: B,
        said: &HeaderMap,
        longest: usize,
        budget: &Arc<Budget>,
    ) -> Result<Self, Unheld<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut body = body;
        let mut room = Room::new(budget);
        let mut whole = Vec::new();
        let mut first: Option<Bytes> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Unheld::Broken)?.into_data() else { continue };
            if room.bytes + data.len() > longest {
                return Err(Unheld::TooLong);
            }
            if !room.grow(data.len()) {
                return Err(Unheld::NoRoom);
            }
            // Most bodies are one piece, which needs no copy.
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(before) => {
                    whole.extend_from_slice(&before);
                    whole.extend_from_slice(&data);
                }
            }
        }
        let bytes = first.unwrap_or_else(|| whole.into());
        let (kind, json_length) = (said.get(CONTENT_TYPE).cloned(), said.get(JSON_LENGTH).cloned());
        Ok(Self { bytes, kind, json_length, room: Arc::new(room) })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn pieces(of: &[&'static str]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = of.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))).collect();
        StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_whole_and_its_room_is_given_back() {
        let budget = Arc::new(Budget { max: 8, taken: AtomicUsize::new(0) });
        let none = HeaderMap::new();
        let held = Held::read(pieces(&["ab", "cd", "ef"]), &none, 6, &budget).await.unwrap();
        assert_eq!((&held.bytes[..], budget.taken()), (&b"abcdef"[..], 6));
        assert!(matches!(Held::read(pieces(&["abc"]), &none, 6, &budget).await, Err(Unheld::NoRoom)));
        assert!(Held::made(b"abc".to_vec(), &budget).is_none());
        let copy = held.clone();
        drop(held);
        assert_eq!(budget.taken(), 6);
        drop(copy);
        assert_eq!(budget.taken(), 0);
        assert!(matches!(Held::read(pieces(&["abcd", "efg"]), &none, 6, &budget).await, Err(Unheld::TooLong)));
        let one = Held::read(Full::new(Bytes::from_static(b"abc")), &none, 6, &budget).await.unwrap();
        assert_eq!((&one.bytes[..], budget.taken()), (&b"abc"[..], 3));
        let empty = Held::read(pieces(&[]), &none, 6, &budget).await.unwrap();
        assert!(empty.bytes.is_empty());
    }
}
