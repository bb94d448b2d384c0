//! Answers of the API server, cut where they are nested deeper than this process reads JSON.
//!
//! Who may write an object may nest what has no schema (`managedFields`, a part of a spec that is passed on) deeper than
//! the 128 levels that `serde_json` reads. That ends the reading of the whole list, before it is told apart into objects:
//! no guard around an object helps. So what is too deep becomes `null` on its way in, and who reads it as a part of an
//! object refuses far less depth than is cut (`RawObject`): nothing is believed that was not written.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::{ClientBuilder, DynBody};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

/// The deepest nesting that is read; what is deeper is cut.
const DEEPEST: usize = 100;

/// An answer, cut where it is too deep, if it is JSON.
pub fn shallow<B>(answer: Response<B>) -> Response<UnsyncBoxBody<Bytes, B::Error>>
where
    B: BodyExt<Data = Bytes> + Send + 'static,
{
    let kind = answer.headers().get(http::header::CONTENT_TYPE);
    let is_json = kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.contains("json"));
    answer.map(|body| {
        if !is_json {
            return body.boxed_unsync();
        }
        let mut cut = Cut::default();
        body.map_frame(move |frame| frame.map_data(|data| cut.next(data))).boxed_unsync()
    })
}

/// A client by this configuration whose answers are [`shallow`].
///
/// # Errors
/// A configuration that cannot be used.
pub fn shallow_client(config: Config) -> Result<Client, kube::Error> {
    ClientBuilder::try_from(config)
        .map(|builder| builder.with_layer(&MapResponseLayer::new(shallow::<Box<DynBody>>)).build())
}

/// Cuts JSON, whole or in pieces.
#[derive(Debug, Default)]
struct Cut {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Cut {
    fn next(&mut self, data: Bytes) -> Bytes {
        // Almost always there is nothing to cut, and nothing is copied.
        let mut kept: Option<Vec<u8>> = None;
        for (at, byte) in data.iter().copied().enumerate() {
            let mut keep = self.depth <= DEEPEST;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth == DEEPEST + 1 {
                            kept.get_or_insert_with(|| data[..at].to_vec()).extend_from_slice(b"null");
                        }
                        keep = self.depth <= DEEPEST;
                    }
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            if let Some(kept) = kept.as_mut().filter(|_| keep) {
                kept.push(byte);
            } else if !keep {
                kept.get_or_insert_with(|| data[..at].to_vec());
            }
        }
        kept.map_or(data, Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}{}", r#"{"a\"}{":["#.repeat(depth), "1", "]}".repeat(depth))
    }

    fn in_pieces(text: &str, size: usize) -> String {
        let mut cut = Cut::default();
        let pieces = text.as_bytes().chunks(size).map(|piece| cut.next(Bytes::copy_from_slice(piece)));
        String::from_utf8(pieces.flat_map(|piece| piece.to_vec()).collect()).unwrap()
    }

    #[test]
    fn what_is_too_deep_is_cut_wherever_the_pieces_end_and_its_neighbours_stay() {
        let text = format!(r#"{{"items":[{{"x":{}}},{{"x":"}}]"}}]}}"#, nested(100));
        serde_json::from_str::<Value>(&text).expect_err("the control: not cut");
        for size in [1, 2, 3, 7, 64, text.len()] {
            let read: Value = serde_json::from_str(&in_pieces(&text, size)).unwrap();
            assert_eq!(read["items"][1], json!({"x": "}]"}), "pieces of {size}");
        }
        // One line after the other, as a watch tells.
        let lines = format!("{}\n{}\n{{}}\n", nested(200), nested(3));
        let cut = in_pieces(&lines, 5);
        let lines: Vec<&str> = cut.lines().collect();
        serde_json::from_str::<Value>(lines[0]).unwrap();
        assert_eq!(lines[1..], [nested(3).as_str(), "{}"]);
    }

    #[test]
    fn what_is_not_too_deep_is_left_as_it_is() {
        for text in [nested(DEEPEST / 2), nested(0), r#"{"a":"\\\"{[","b":[[],{}]}"#.to_owned()] {
            for size in [1, 3, 1000] {
                assert_eq!(in_pieces(&text, size), text);
            }
        }
    }
}
