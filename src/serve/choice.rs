//! Which model a request is for: the one that it names, else the one whose languages are the closest to those
//! asked for.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use s2s_runtime::decoding::DecodingOptions;

use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::model::Card;
use super::scheduler::Scheduler;
use super::server::Server;

/// The code of a language that the bundle does not name (ISO 639's "undetermined").
pub(super) const UNDETERMINED: &str = "und";

/// What a request says about the model that it wants; nothing is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'r> {
    /// Name of the model.
    pub(super) model: Option<&'r str>,
    /// Code of the source language.
    pub(super) source: Option<&'r str>,
    /// Code of the target language.
    pub(super) target: Option<&'r str>,
}

/// The model in a path such as `/models/dates/translate`, for clients that can be given an address and
/// nothing else.
#[derive(Debug, Default)]
pub(super) struct InPath(Option<String>);

impl InPath {
    /// The model that a request names: in its path, as the field `model`, or in the query string.
    pub(super) fn or_field<'r>(&'r self, fields: &'r Fields) -> Result<Option<&'r str>, ApiError> {
        Ok(self.0.as_deref().or(fields.text_or_query("model")?).filter(|name| !name.is_empty()))
    }

    /// Whether a path without a model, or with this one, has been asked.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|own| own == name)
    }
}

impl FromRequestParts<Arc<Server>> for InPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let unreadable = |_| ApiError::new(Fault::InvalidUtf8, "the path is not UTF-8");
        let parameters = RawPathParams::from_request_parts(parts, server).await.map_err(unreadable)?;
        Ok(Self(parameters.iter().find(|(name, _)| *name == "model").map(|(_, value)| value.to_owned())))
    }
}

/// The source language that a request names; `auto` is none.
pub(super) fn source_of(fields: &Fields) -> Result<Option<&str>, ApiError> {
    Ok(fields.filled("source")?.filter(|source| !source.eq_ignore_ascii_case("auto")))
}

/// What a model translates: from each of these languages to each of those.
pub(super) struct Sides {
    pub(super) sources: Vec<String>,
    pub(super) targets: Vec<String>,
}

/// Source and target languages of each model, or of the one in the path.
pub(super) fn sides(server: &Server, path: &InPath) -> Result<Vec<Sides>, ApiError> {
    let all = server.schedulers()?;
    let cards = all.iter().map(|s| s.model().card()).filter(|card| path.is(&card.name));
    Ok(cards
        .map(|card| {
            let side = |own: &Option<String>| match own {
                Some(code) => vec![code.clone()],
                None if card.languages.is_empty() => vec![UNDETERMINED.to_owned()],
                None => card.languages.iter().map(|language| language.tag.clone()).collect(),
            };
            Sides { sources: side(&card.source_language), targets: side(&card.target_language) }
        })
        .collect())
}

/// A model that can do what is asked for.
struct Able<'s> {
    scheduler: &'s Arc<Scheduler>,
    /// How well source and target language fit.
    fit: (usize, usize),
    /// What the model has to be told of them.
    codes: [Option<&'s str>; 2],
}

/// How well the best of a model's languages fits, and what the model calls it.
fn spoken<'c>(card: &'c Card, own: Option<&str>, asked: Option<&str>) -> Option<(usize, Option<&'c str>)> {
    if card.languages.is_empty() || (asked.is_none() && own.is_none()) {
        return Some((fit(own, asked)?, None));
    }
    // What the server was told of the model counts as asked for, and as more than its own list.
    if own.is_some() {
        fit(own, asked)?;
    }
    let asked = own.or(asked);
    let fits = card.languages.iter().filter_map(|language| {
        let best = fit(Some(&language.code), asked).max(fit(Some(&language.tag), asked))?;
        Some((best, Some(language.code.as_str())))
    });
    // Of equals the first: the model's own order.
    fits.rev().max_by_key(|(fit, _)| *fit)
}

/// How well a model's language fits; more is closer.
fn fit(own: Option<&str>, asked: Option<&str>) -> Option<usize> {
    let (Some(own), Some(asked)) = (own, asked) else {
        return Some(usize::from(own.is_none() && asked.is_some()));
    };
    let subtags = |code: &str| code.split(['-', '_']).map(str::to_ascii_lowercase).collect::<Vec<_>>();
    let (own, asked) = (subtags(own), subtags(asked));
    match () {
        () if own == asked => Some(usize::MAX),
        // `en` serves en-US, and the more of `zh-Hant-TW` it names, the better.
        () if asked.starts_with(&own) => Some(2 + own.len()),
        // `pt-BR` is a Portuguese.
        () if own.starts_with(&asked) => Some(2),
        () => None,
    }
}

fn pair(card: &Card) -> String {
    let or_any = |language: &Option<String>| match language {
        Some(code) => code.clone(),
        None if card.languages.is_empty() => "any language".to_owned(),
        None => format!("any of {} languages", card.languages.len()),
    };
    format!("{} ({} to {})", card.name, or_any(&card.source_language), or_any(&card.target_language))
}

fn is_code(code: &str) -> bool {
    let rest = code.strip_prefix(|c: char| c.is_ascii_alphabetic());
    code.len() <= 32
        && rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
}

impl Server {
    /// The model that serves a request: of those that can, the one whose languages are closer to what is
    /// asked for than any other's, on both sides. With it what a model of several languages has to be told.
    ///
    /// # Errors
    /// Names that there are not; several models of which none is closer than the others, with their names.
    pub(super) fn choose(&self, wanted: Wanted<'_>) -> Result<(Arc<Scheduler>, DecodingOptions), ApiError> {
        let Wanted { model, source, target } = wanted;
        if let Some(strange) = source.into_iter().chain(target).find(|code| !is_code(code)) {
            let message = format!("{strange:?} is no language code; send one such as en or zh-Hans");
            return Err(ApiError::new(Fault::UnsupportedLanguage, message));
        }
        let all = self.schedulers()?;
        let names =
            |of: &[&Arc<Scheduler>]| of.iter().map(|s| pair(s.model().card())).collect::<Vec<_>>().join(", ");
        let named: Vec<&Arc<Scheduler>> =
            all.iter().filter(|s| model.is_none_or(|name| s.model().card().name == name)).collect();
        if let Some(name) = model.filter(|_| named.is_empty()) {
            let message =
                format!("there is no model {name:?}; there are {}", names(&all.iter().collect::<Vec<_>>()));
            return Err(ApiError::new(Fault::UnknownModel, message));
        }
        let able: Vec<Able<'_>> = named
            .iter()
            .filter_map(|&scheduler| {
                let card = scheduler.model().card();
                let (source, source_code) = spoken(card, card.source_language.as_deref(), source)?;
                let (target, target_code) = spoken(card, card.target_language.as_deref(), target)?;
                Some(Able { scheduler, fit: (source, target), codes: [source_code, target_code] })
            })
            .collect();
        let is_closer = |a: (usize, usize), b: (usize, usize)| a != b && a.0 >= b.0 && a.1 >= b.1;
        let closest: Vec<&Able<'_>> =
            able.iter().filter(|one| !able.iter().any(|other| is_closer(other.fit, one.fit))).collect();
        match &*closest {
            [one] => {
                let [source_language, target_language] = one.codes.map(|code| code.map(str::to_owned));
                let options =
                    DecodingOptions { source_language, target_language, ..DecodingOptions::default() };
                Ok((Arc::clone(one.scheduler), options))
            }
            [] => {
                let [source, target] = [source, target].map(|code| code.unwrap_or("any language"));
                let message = format!(
                    "no model here translates from {source} to {target}; there are {}",
                    names(&named)
                );
                Err(ApiError::new(Fault::UnsupportedLanguage, message))
            }
            several => {
                let message = format!(
                    "{} models can do that: {}; send the name of one as `model`",
                    several.len(),
                    names(&several.iter().map(|able| able.scheduler).collect::<Vec<_>>())
                );
                Err(ApiError::new(Fault::AmbiguousModel, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closer_language_fits_better_and_another_not_at_all() {
        assert!(fit(Some("en"), Some("EN")) > fit(Some("zh-Hant"), Some("zh-Hant-TW")));
        assert!(fit(Some("zh-Hant"), Some("zh_hant_TW")) > fit(Some("zh"), Some("zh-Hant-TW")));
        assert!(fit(Some("zh"), Some("zh-TW")) > fit(Some("zh-TW"), Some("zh")));
        assert!(fit(Some("pt-BR"), Some("pt")) > fit(None, Some("pt")));
        assert_eq!((fit(None, None), fit(Some("en"), None)), (Some(0), Some(0)));
        for (own, asked) in [("en", "de"), ("en-US", "en-GB"), ("e", "en")] {
            assert_eq!(fit(Some(own), Some(asked)), None, "{own} {asked}");
        }
    }
}
