//! The graphs of a bundle besides its texts: as they are, and as pictures.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::engine::EngineKind;
use s2s_runtime::manifest::Role;
use s2s_runtime::{Error, ErrorKind, Result};

use crate::inspect::{Subject, View};

use super::raw::RawGraph;

/// The graphs of a model; none for a model without a bundle.
#[derive(Default)]
pub struct Graphs {
    bundle: Option<Arc<Bundle>>,
    raw: Vec<RawGraph>,
    pictures: Pictures,
}

impl Graphs {
    /// Those of `bundle`; each is loaded when it is first asked for.
    pub fn new(bundle: &Arc<Bundle>, kind: EngineKind, workers: usize) -> Self {
        // A graph may be given a whole batch of the longest texts; half of the processors are left to texts.
        let at_once = (workers / 2).max(1);
        let roles = bundle.manifest().graphs.keys();
        let raw =
            roles.filter_map(|&role| RawGraph::new(Arc::clone(bundle), role, kind, at_once).ok()).collect();
        Self { bundle: Some(Arc::clone(bundle)), raw, pictures: Pictures::default() }
    }

    /// A graph as it is, without text and without the loop.
    pub fn raw(&self, role: Role) -> Option<&RawGraph> {
        self.raw.iter().find(|graph| graph.role() == role)
    }

    /// The network or one of its graphs, drawn as SVG once and then kept; `None` where there is nothing to
    /// draw.
    pub fn picture(&self, role: Option<Role>) -> Option<Result<Bytes>> {
        let bundle = self.bundle.as_ref()?;
        // A role that the bundle does not have is not worth remembering.
        role.is_none_or(|role| bundle.manifest().graphs.contains_key(&role)).then(|| {
            let draw = || {
                Subject::of_bundle(bundle)
                    .and_then(|subject| subject.svg(role.map_or(View::Overview, View::Graph)))
            };
            self.pictures.get(role, draw)
        })
    }
}

/// Drawings by role, each made once, one at a time; where it failed the reason is kept, and nothing is drawn
/// again.
#[derive(Default)]
struct Pictures(Mutex<HashMap<Option<Role>, Drawn>>);

/// An SVG, or the kind and message of the error.
type Drawn = std::result::Result<Bytes, (ErrorKind, String)>;

impl Pictures {
    fn get(&self, role: Option<Role>, draw: impl FnOnce() -> Result<String>) -> Result<Bytes> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = drawn.entry(role).or_insert_with(|| {
            let drawn = catch_unwind(AssertUnwindSafe(draw));
            let drawn = drawn
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the picture could not be drawn")));
            drawn.map(Bytes::from).map_err(|error| (error.kind(), error.to_string()))
        });
        picture.clone().map_err(|(kind, message)| Error::new(kind, message))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_picture_is_drawn_once_and_a_failed_one_is_not_tried_again() {
        let (pictures, draws) = (Pictures::default(), Cell::new(0));
        let get = |role: Role, drawn: &dyn Fn() -> Result<String>| {
            pictures.get(Some(role), || {
                draws.set(draws.get() + 1);
                drawn()
            })
        };
        for _ in 0..3 {
            let svg = get(Role::Encoder, &|| Ok("<svg/>".to_owned())).unwrap();
            let error = get(Role::Decoder, &|| Err(Error::new(ErrorKind::Bundle, "a cycle"))).unwrap_err();
            let panic = get(Role::Training, &|| panic!("a defect")).unwrap_err();
            assert_eq!(
                (&svg[..], error.kind(), error.message()),
                (&b"<svg/>"[..], ErrorKind::Bundle, "a cycle")
            );
            assert_eq!(panic.kind(), ErrorKind::Internal);
        }
        assert_eq!(draws.get(), 3);
    }
}
