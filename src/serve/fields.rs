//! Named values of a request, from a JSON object, a form, or the query string; read strictly: what is not
//! UTF-8 is refused, never replaced.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header, request::Parts};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::body::{Held, Received, read_body};
use super::error::{ApiError, Fault};
use super::json::{self, Any, Budget, VALUES};
use super::server::Server;

/// Named values, and the head of the request that they came in.
#[derive(Debug)]
pub(super) struct Fields {
    /// Method, URI, headers.
    pub(super) head: Parts,
    values: Map<String, Value>,
    /// Of the query string, where the body is JSON.
    query: Map<String, Value>,
    is_form: bool,
    /// The values are as large as the body was.
    _held: Held,
}

enum Format {
    Json,
    Form,
}

fn format_of(headers: &HeaderMap) -> Result<Option<Format>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let wrong = |what: &str| {
        let message = format!(
            "content type {what} is not read here; send application/json or \
             application/x-www-form-urlencoded in UTF-8"
        );
        ApiError::new(Fault::UnsupportedMediaType, message)
    };
    let value = value.to_str().map_err(|_| wrong("in bytes"))?;
    if value.trim().is_empty() {
        return Ok(None);
    }
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset = parameters
        .split(';')
        .filter_map(|p| p.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("charset"));
    if charset.is_some_and(|(_, charset)| {
        !["utf-8", "utf8"].contains(&charset.trim_matches('"').to_ascii_lowercase().as_str())
    }) {
        return Err(wrong(value));
    }
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Some(Format::Json)),
        "application/x-www-form-urlencoded" => Ok(Some(Format::Form)),
        kind if kind.starts_with("application/") && kind.ends_with("+json") => Ok(Some(Format::Json)),
        _ => Err(wrong(value)),
    }
}

impl Fields {
    /// Reads a request: a JSON object alone, or the query string and then a form.
    pub(super) async fn read(request: Request, server: &Server) -> Result<Self, ApiError> {
        let reads_body = !matches!(*request.method(), Method::GET | Method::HEAD);
        let format = if reads_body { format_of(request.headers())? } else { None };
        let (head, body) = request.into_parts();
        let Received { bytes, held } =
            read_body(&head.headers, body, server.bodies(), server.limits()).await?;
        let mut query = Map::new();
        pairs_into(head.uri.query().unwrap_or_default().as_bytes(), &mut query)?;
        let is_form = !matches!(format, Some(Format::Json));
        let read = server.bodies().parsed(bytes.len(), move || match format {
            Some(Format::Json) => Ok((json_object(&bytes)?, query)),
            None if reads_body && !bytes.is_empty() => {
                let message = "the body has no content type; send application/json or \
                    application/x-www-form-urlencoded";
                Err(ApiError::new(Fault::UnsupportedMediaType, message))
            }
            None => Ok((query, Map::new())),
            Some(Format::Form) => {
                let mut form = Map::new();
                pairs_into(&bytes, &mut form)?;
                for (name, value) in form {
                    query.entry(name).or_insert(value);
                }
                Ok((query, Map::new()))
            }
        });
        let (values, query) = read.await?;
        Ok(Self { head, values, query, is_form, _held: held })
    }

    /// Named values that came in another way.
    pub(super) fn of(head: Parts, values: Map<String, Value>, held: Held) -> Self {
        Self { head, values, query: Map::new(), is_form: true, _held: held }
    }

    /// Any value; `None` where the field is left out.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The names that were sent.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A text; `None` where the field is left out or null.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        text_of(&self.values, name)
    }

    /// A text; one in the query string counts beside a JSON body, too.
    pub(super) fn text_or_query(&self, name: &str) -> Result<Option<&str>, ApiError> {
        Ok(text_of(&self.values, name)?.or(text_of(&self.query, name)?))
    }

    /// A text that is not empty.
    pub(super) fn filled(&self, name: &str) -> Result<Option<&str>, ApiError> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// A text that must be there and must not be empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.filled(name)?.ok_or_else(|| missing(name))
    }

    /// One text or several, and whether there was a list; at least one, and a single one must not be empty.
    /// In a form a list may also be JSON, as clients write it that know nothing else.
    pub(super) fn texts(&self, name: &str) -> Result<(Vec<String>, bool), ApiError> {
        match self.values.get(name) {
            None | Some(Value::Null) => Err(missing(name)),
            Some(Value::String(text)) if text.is_empty() => Err(missing(name)),
            Some(Value::String(text)) => match list_in(text).filter(|_| self.is_form) {
                Some(texts) => Ok((texts, true)),
                None => Ok((vec![text.clone()], false)),
            },
            Some(Value::Array(items)) if items.is_empty() => Err(missing(name)),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                Ok((texts.ok_or_else(|| wrong_type(name, "a string or an array of strings"))?, true))
            }
            Some(_) => Err(wrong_type(name, "a string or an array of strings")),
        }
    }

    /// A count; digits in a string count too, because forms have nothing else.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let number = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Number(number)) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, "a whole number of at least 0"))
    }
}

fn text_of<'v>(values: &'v Map<String, Value>, name: &str) -> Result<Option<&'v str>, ApiError> {
    match values.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        // A field given twice in a form.
        Some(Value::Array(_)) => Err(wrong_type(name, "one string")),
        Some(_) => Err(wrong_type(name, "a string")),
    }
}

/// The strings of a JSON array.
fn list_in(text: &str) -> Option<Vec<String>> {
    if !(text.starts_with('[') && text.ends_with(']')) {
        return None;
    }
    let budget = Budget::new();
    let Ok(Value::Array(items)) = json::read(text, &budget, Any(&budget)) else { return None };
    let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn missing(name: &str) -> ApiError {
    ApiError::new(Fault::BadRequest, format!("Invalid request: missing {name} parameter"))
}

fn wrong_type(name: &str, right: &str) -> ApiError {
    ApiError::new(Fault::BadRequest, format!("Invalid request: {name} must be {right}"))
}

fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes).map_err(|error| {
        ApiError::new(Fault::InvalidUtf8, format!("not UTF-8 after byte {} of the text", error.valid_up_to()))
    })
}

fn json_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = utf8(body)?;
    // RFC 8259 lets readers pass over a byte order mark, and Windows writes it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let budget = Budget::new();
    match json::read(text, &budget, Any(&budget))? {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::new(Fault::BadRequest, "the body must be a JSON object")),
    }
}

/// Adds `a=1&b=2` to `values`; a name that comes several times becomes an array, and so do `a[]=1` and
/// `a[0]=1`, which PHP writes.
fn pairs_into(encoded: &[u8], values: &mut Map<String, Value>) -> Result<(), ApiError> {
    for (at, pair) in encoded.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).enumerate() {
        if at == VALUES {
            return Err(ApiError::new(Fault::TooLong, format!("the form has more than {VALUES} values")));
        }
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let name = percent_decoded(&pair[..equals])?;
        let value = Value::String(percent_decoded(pair.get(equals + 1..).unwrap_or_default())?);
        let (name, is_item) = array_name(&name).map_or((name.as_str(), false), |name| (name, true));
        match values.get_mut(name) {
            None => {
                values.insert(name.to_owned(), if is_item { Value::Array(vec![value]) } else { value });
            }
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(())
}

/// `a` of `a[]` and `a[0]`.
fn array_name(name: &str) -> Option<&str> {
    let (name, index) = name.strip_suffix(']')?.rsplit_once('[')?;
    (!name.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// `%41` and `+` decoded; a `%` without two hexadecimal digits stands for itself, as the URL standard has it.
fn percent_decoded(encoded: &[u8]) -> Result<String, ApiError> {
    let spaced: Vec<u8> = encoded.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    utf8(&percent_decode(&spaced).collect::<Vec<u8>>()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(encoded: &str) -> Result<Value, ApiError> {
        let mut values = Map::new();
        pairs_into(encoded.as_bytes(), &mut values)?;
        Ok(Value::Object(values))
    }

    #[test]
    fn a_form_is_decoded_and_a_repeated_name_becomes_an_array() {
        let decoded = pairs("q=a+b%21&q=%E4%BD%A0&empty&half=%4&&x=1=2").ok();
        assert_eq!(
            decoded,
            Some(serde_json::json!({"q": ["a b!", "你"], "empty": "", "half": "%4", "x": "1=2"}))
        );
    }

    #[test]
    fn arrays_as_php_writes_them_and_lists_in_json_are_lists() {
        let decoded = pairs("text%5B0%5D=a&text[1]=b&one[]=c&[0]=d&x[y]=e").ok();
        assert_eq!(
            decoded,
            Some(serde_json::json!({"text": ["a", "b"], "one": ["c"], "[0]": "d", "x[y]": "e"}))
        );
        assert_eq!(list_in(r#"["a", ""]"#), Some(vec!["a".to_owned(), String::new()]));
        for text in ["[]", "[1]", "[a]", "a", "[\"a\"", "[[\"a\"]]"] {
            assert_eq!(list_in(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_and_never_replaced() {
        assert_eq!(pairs("q=%FF").map_err(|e| e.fault), Err(Fault::InvalidUtf8));
        assert_eq!(pairs("%FF=q").map_err(|e| e.fault), Err(Fault::InvalidUtf8));
    }
}
