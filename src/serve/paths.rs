//! Which model a path names: `/v2/models/{model}` and `/v2/models/{model}/versions/{version}`.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use s2s_runtime::manifest::Role;

use super::error::{ApiError, Fault};
use super::raw::RawGraph;
use super::scheduler::Scheduler;
use super::server::Server;

/// The version of every model: a bundle that is replaced takes the place of the old one.
pub(super) const VERSION: &str = "1";

/// A model that a path names; checks the key on the way, so that names are not told to strangers.
pub(super) struct Named {
    /// As it is written in the path.
    pub(super) name: String,
    /// Where requests for the model queue.
    pub(super) scheduler: Arc<Scheduler>,
    /// One of its graphs, where the path says `NAME.encoder`, `NAME.decoder` or `NAME.training`.
    pub(super) role: Option<Role>,
}

impl Named {
    /// The graph, where the path names one.
    pub(super) fn raw(&self) -> Option<&RawGraph> {
        self.role.and_then(|role| self.scheduler.graphs().raw(role))
    }

    /// The model for text.
    ///
    /// # Errors
    /// The path names a graph.
    pub(super) fn text_model(&self) -> Result<&Arc<Scheduler>, ApiError> {
        match self.role {
            None => Ok(&self.scheduler),
            Some(_) => Err(ApiError::new(
                Fault::NotFound,
                format!("{} is a graph; text goes to {}", self.name, self.scheduler.model().card().name),
            )),
        }
    }
}

/// The model or graph called `name`.
pub(super) fn find(server: &Server, name: &str) -> Result<(Arc<Scheduler>, Option<Role>), ApiError> {
    if let Some(scheduler) = server.model(name)? {
        return Ok((scheduler, None));
    }
    if let Some((model, role)) = name.rsplit_once('.')
        && let Some(role) = Role::ALL.into_iter().find(|known| known.as_str() == role)
        && let Some(scheduler) = server.model(model)?
        && scheduler.graphs().raw(role).is_some()
    {
        return Ok((scheduler, Some(role)));
    }
    Err(ApiError::new(
        Fault::NotFound,
        format!("there is no model {name:?}; POST /v2/repository/index names those that there are"),
    ))
}

impl FromRequestParts<Arc<Server>> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        server.authorise(&parts.headers, None)?;
        let unreadable = |_| ApiError::new(Fault::InvalidUtf8, "the path is not UTF-8");
        let parameters = RawPathParams::from_request_parts(parts, server).await.map_err(unreadable)?;
        let get = |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let name = get("model").unwrap_or_default().to_owned();
        if let Some(version) = get("version").filter(|&version| version != VERSION) {
            return Err(ApiError::new(
                Fault::NotFound,
                format!("{name} has no version {version:?}, only {VERSION}"),
            ));
        }
        let (scheduler, role) = find(server, &name)?;
        Ok(Self { name, scheduler, role })
    }
}
