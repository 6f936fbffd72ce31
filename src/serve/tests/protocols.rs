//! The other protocols over the scripted model, without a socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::router::{body, post, refused, send};
use super::scripted::Scripted;
use super::{server, until};
use crate::serve::app::routes;
use crate::serve::error::Fault;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::server::Server;

/// A model called `m` from English to French.
fn french(limits: &Limits) -> (Arc<Server>, Arc<super::Record>) {
    let card = Card {
        name: "m".to_owned(),
        source_language: Some("en".to_owned()),
        target_language: Some("fr".to_owned()),
        ..Card::default()
    };
    server(limits, Scripted { card, ..Scripted::default() }, None)
}

fn json_to(path: &str, value: &Value) -> Request<Body> {
    post(path, "application/json", value.to_string())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn bytes(response: Response) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().into()
}

async fn text(response: Response) -> String {
    String::from_utf8(bytes(response).await).unwrap()
}

#[tokio::test]
async fn deepl_gets_one_translation_a_text_and_what_it_bills() {
    let (server, _) = french(&Limits::default());
    let request = json!({"text": ["a é", "b"], "target_lang": "FR", "source_lang": "EN-GB", "show_billed_characters": true});
    let answer = body(send(&server, json_to("/v2/translate", &request)).await).await;
    let expected = json!({"translations": [
        {"detected_source_language": "EN-GB", "text": "A É", "billed_characters": 3},
        {"detected_source_language": "EN-GB", "text": "B", "billed_characters": 1},
    ]});
    assert_eq!(answer, expected);
    let form = post("/v2/translate", "application/x-www-form-urlencoded", "text=x&text=y&target_lang=fr");
    let answer = body(send(&server, form).await).await;
    assert_eq!(
        answer["translations"][1],
        json!({"detected_source_language": "EN", "text": "Y", "billed_characters": 1})
    );
    refused(
        send(&server, json_to("/v2/translate", &json!({"text": ["a"], "target_lang": "DE"}))).await,
        Fault::UnsupportedLanguage,
    )
    .await;
    refused(send(&server, json_to("/v2/translate", &json!({"target_lang": "FR"}))).await, Fault::BadRequest)
        .await;
    let html = json!({"text": ["a"], "target_lang": "FR", "tag_handling": "markdown"});
    refused(send(&server, json_to("/v2/translate", &html)).await, Fault::InvalidParameter).await;
}

#[tokio::test]
async fn deepl_lists_languages_of_either_side() {
    let (server, _) = french(&Limits::default());
    assert_eq!(
        body(send(&server, get("/v2/languages")).await).await,
        json!([{"language": "EN", "name": "EN"}])
    );
    let target = json!([{"language": "FR", "name": "FR", "supports_formality": false}]);
    assert_eq!(body(send(&server, get("/v2/languages?type=target")).await).await, target);
    refused(send(&server, get("/v2/languages?type=x")).await, Fault::BadRequest).await;
}

#[tokio::test]
async fn every_protocol_wants_the_key_where_there_is_one() {
    let (server, _) = server(&Limits::default(), Scripted::default(), Some("secret"));
    let translate = json!({"text": ["a"], "target_lang": "FR"});
    let mut with_key = json_to("/v2/translate", &translate);
    with_key.headers_mut().insert(header::AUTHORIZATION, "DeepL-Auth-Key secret".parse().unwrap());
    assert_eq!(send(&server, with_key).await.status(), StatusCode::OK);
    let open = [
        "/",
        "/docs",
        "/openapi.json",
        "/health",
        "/languages",
        "/frontend/settings",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/models/{model}/languages",
    ];
    let secret = "/download_file/{file}";
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in ["get", "post"].into_iter().filter(|method| methods.get(*method).is_some()) {
            let said = methods[method]["security"] == json!([]);
            assert_eq!(
                said,
                open.contains(&path.as_str()) || path == secret,
                "the document says of {path} that it is open: {said}"
            );
            let is_secret = path == secret;
            let path = path.replace("{model}", "m").replace("{version}", "1");
            let mut request = json_to(&path, &json!({"q": "a"}));
            *request.method_mut() = method.to_uppercase().parse().unwrap();
            let response = send(&server, request).await;
            match said {
                // The name of a file is its key.
                true if is_secret => assert_eq!(response.status(), StatusCode::NOT_FOUND),
                true => assert_eq!(response.status(), StatusCode::OK, "{path}"),
                false => drop(refused(response, Fault::MissingKey).await),
            }
        }
    }
}

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

#[tokio::test]
async fn the_document_lists_every_route_with_its_methods_and_nothing_else() {
    let (server, _) = french(&Limits::default());
    let document = document();
    let documented: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, routes().iter().map(|(path, _)| *path).collect());
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{model}", "m").replace("{version}", "1");
        let request = Request::patch(&path).body(Body::empty()).unwrap();
        let allowed = send(&server, request).await.headers()[header::ALLOW].to_str().unwrap().to_owned();
        let allowed: BTreeSet<String> =
            allowed.split(',').filter(|method| *method != "HEAD").map(str::to_lowercase).collect();
        assert_eq!(allowed, methods.as_object().unwrap().keys().cloned().collect(), "{path}");
    }
    let served = body(send(&server, get("/openapi.json")).await).await;
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_document_lists_the_statuses_that_are_given() {
    let (server, _) = french(&Limits { max_payload: 2000, ..Limits::default() });
    let document = document();
    let described = |fault: Fault| {
        let (status, name) = fault.entry();
        let responses = document["components"]["responses"].as_object().unwrap();
        status == StatusCode::METHOD_NOT_ALLOWED
            || responses.values().any(|r| r["description"].as_str().unwrap().contains(name))
    };
    let missing: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| !described(*fault)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            methods.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters")
        {
            let responses = operation["responses"].as_object().unwrap();
            assert!(!responses.contains_key("4XX") && !responses.contains_key("5XX"), "{path}");
            let bodies: [(&str, Vec<u8>); 7] = [
                ("", Vec::new()),
                ("application/json", b"{".to_vec()),
                ("application/json", b"{\"q\": \"a\", \"text\": \"a\", \"text_input\": \"a\"}".to_vec()),
                ("application/x-www-form-urlencoded", b"q=%FF&type=x".to_vec()),
                ("multipart/form-data; boundary=x", b"--x".to_vec()),
                ("text/plain", b"a".to_vec()),
                ("application/json", vec![b' '; 3000]),
            ];
            for model in ["m", "nothing", "%FF"] {
                let path = path.replace("{model}", model).replace("{version}", "1").replace("{file}", "x");
                for (kind, bytes) in &bodies {
                    let mut request = post(&path, kind, bytes.clone());
                    *request.method_mut() = method.to_uppercase().parse().unwrap();
                    let status = send(&server, request).await.status();
                    assert!(
                        responses.contains_key(status.as_str()),
                        "{method} {path} with {kind}: {status} is not in the document"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn the_document_names_every_decoding_option_and_no_other() {
    use s2s_runtime::decoding::DecodingOptions;
    let document = document();
    let named = document["components"]["schemas"]["Options"]["properties"].as_object().unwrap();
    // Those that are not named are CTranslate2's names of others.
    for name in named.keys() {
        assert!(DecodingOptions::KEYS.contains(&name.as_str()), "{name} is no option");
    }
    let aliases = [
        "max_decoding_length",
        "min_decoding_length",
        "beam_size",
        "num_hypotheses",
        "sampling_temperature",
        "sampling_topk",
        "sampling_topp",
        "max_time",
        "return_scores",
        "return_attention",
    ];
    let missing: Vec<_> = DecodingOptions::KEYS
        .iter()
        .filter(|key| !named.contains_key(**key) && !aliases.contains(key))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn pages_for_people_take_nothing_from_outside() {
    let (server, _) = french(&Limits::default());
    for path in ["/", "/docs"] {
        let response = send(&server, get(path)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(
            response.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none';")
        );
        let page = text(response).await;
        for outside in ["//cdn", "https://", "src=\"http", "@import", "url(http"] {
            assert!(!page.contains(outside), "{path} has {outside}");
        }
        assert!(
            page.contains("<html lang=")
                && page.contains("viewport")
                && page.contains("prefers-color-scheme: dark")
        );
    }
}

#[tokio::test]
async fn the_inference_protocol_tells_about_server_and_models() {
    let (server, _) = french(&Limits::default());
    assert_eq!(body(send(&server, get("/v2")).await).await["name"], "s2s");
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(body(send(&server, get(path)).await).await, json!({"live": true, "ready": true}));
    }
    for path in ["/v2/models/m", "/v2/models/m/versions/1"] {
        let model = body(send(&server, get(path)).await).await;
        assert_eq!(model["inputs"], json!([{"name": "text_input", "datatype": "BYTES", "shape": [-1]}]));
        assert_eq!((&model["versions"], &model["outputs"][1]["datatype"]), (&json!(["1"]), &json!("FP32")));
    }
    assert_eq!(
        body(send(&server, get("/v2/models/m/ready")).await).await,
        json!({"name": "m", "ready": true})
    );
    assert_eq!(
        body(send(&server, get("/v2/models/m/config")).await).await["input"][0]["data_type"],
        "TYPE_STRING"
    );
    let index = body(send(&server, json_to("/v2/repository/index", &json!({}))).await).await;
    assert_eq!(index, json!([{"name": "m", "version": "1", "state": "READY", "reason": ""}]));
    for path in ["/v2/models/n", "/v2/models/m/versions/2", "/v2/models/m.encoder", "/v2/models/n/ready"] {
        refused(send(&server, get(path)).await, Fault::NotFound).await;
    }
    refused(send(&server, get("/v2/models/%FF")).await, Fault::InvalidUtf8).await;
}

#[tokio::test]
async fn a_server_that_loads_is_live_and_not_ready() {
    let server = Arc::new(Server::new(Limits::default(), None));
    let live = send(&server, get("/v2/health/live")).await;
    assert_eq!((live.status(), body(live).await), (StatusCode::OK, json!({"live": true, "ready": false})));
    let ready = send(&server, get("/v2/health/ready")).await;
    assert_eq!(
        (ready.status(), body(ready).await),
        (StatusCode::SERVICE_UNAVAILABLE, json!({"live": true, "ready": false}))
    );
    refused(send(&server, get("/v2/models/m")).await, Fault::Loading).await;
    assert_eq!(send(&server, get("/metrics")).await.status(), StatusCode::OK);
}

fn infer(value: &Value) -> Request<Body> {
    json_to("/v2/models/m/infer", value)
}

#[tokio::test]
async fn texts_are_inferred_in_the_shape_in_which_they_came() {
    let (server, _) = french(&Limits::default());
    let input = json!({"name": "text_input", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["bc"]]});
    let response = send(&server, infer(&json!({"id": "7", "inputs": [input]}))).await;
    assert_eq!(response.headers()["x-generated-tokens"], "5");
    let expected = json!({
        "model_name": "m", "model_version": "1", "id": "7",
        "outputs": [
            {"name": "text_output", "datatype": "BYTES", "shape": [2, 1], "data": ["A", "BC"]},
            {"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [-0.5, -0.5]},
        ],
    });
    assert_eq!(body(response).await, expected);
    let only = json!({"inputs": [input], "outputs": [{"name": "score"}], "parameters": {"max_new_tokens": 3, "priority": 1}});
    let answer = body(send(&server, infer(&only)).await).await;
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
}

/// A request of the binary extension: JSON, then the bytes of the tensors.
fn binary(json: &Value, tensors: &[u8]) -> Request<Body> {
    let json = json.to_string();
    let mut request =
        post("/v2/models/m/infer", "application/octet-stream", [json.as_bytes(), tensors].concat());
    request.headers_mut().insert("inference-header-content-length", json.len().into());
    request
}

#[tokio::test]
async fn tensors_come_and_go_as_bytes_where_the_client_likes() {
    let (server, _) = french(&Limits::default());
    let input = |size: usize| json!({"name": "text_input", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": size}});
    let tensor = b"\x02\0\0\0\xc3\xa9\x01\0\0\0b";
    let request = json!({"inputs": [input(11)], "parameters": {"binary_data_output": true}});
    let response = send(&server, binary(&request, tensor)).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/octet-stream");
    let length: usize =
        response.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let bytes = bytes(response).await;
    let head: Value = serde_json::from_slice(&bytes[..length]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 11}));
    assert_eq!(&bytes[length..length + 11], b"\x02\0\0\0\xc3\x89\x01\0\0\0B");
    assert_eq!(&bytes[length + 11..], [-0.5_f32, -0.5].map(f32::to_le_bytes).concat());
    // One output as bytes, the other as JSON.
    let request = json!({"inputs": [input(11)], "outputs": [{"name": "text_output", "parameters": {"binary_data": true}}, {"name": "score"}]});
    let response = send(&server, binary(&request, tensor)).await;
    assert!(response.headers().contains_key("inference-header-content-length"));
    let cases: [(Value, &[u8], Fault); 6] = [
        (json!({"inputs": [input(11)]}), b"\x02\0\0\0", Fault::BadRequest),
        (json!({"inputs": [input(5)]}), tensor, Fault::BadRequest),
        (json!({"inputs": [input(11)]}), b"\xff\xff\xff\xff\xc3\xa9\x01\0\0\0b", Fault::BadRequest),
        (json!({"inputs": [input(11)]}), b"\x02\0\0\0\xff\xa9\x01\0\0\0b", Fault::InvalidUtf8),
        (json!({"inputs": [input(10)]}), &tensor[..10], Fault::BadRequest),
        (json!({"inputs": [input(18446744073709551615)]}), tensor, Fault::BadRequest),
    ];
    for (json, tensor, fault) in cases {
        refused(send(&server, binary(&json, tensor)).await, fault).await;
    }
    let mut long = binary(&request, tensor);
    long.headers_mut().insert("inference-header-content-length", 1_000_000.into());
    refused(send(&server, long).await, Fault::BadRequest).await;
}

#[tokio::test]
async fn an_inference_that_is_wrong_says_what_is_wrong() {
    let (server, _) = french(&Limits { max_new_tokens: 10, ..Limits::default() });
    let tensor = |name: &str, shape: Value, data_type: &str, data: Value| json!({"name": name, "shape": shape, "datatype": data_type, "data": data});
    let one = tensor("text_input", json!([1]), "BYTES", json!(["a"]));
    let bad = [
        json!([]),
        json!({"inputs": []}),
        json!({"inputs": "x"}),
        json!({"inputs": [one, one]}),
        json!({"inputs": [tensor("q", json!([1]), "BYTES", json!(["a"]))]}),
        json!({"inputs": [tensor("text_input", json!([2]), "BYTES", json!(["a"]))]}),
        json!({"inputs": [tensor("text_input", json!([0]), "BYTES", json!([]))]}),
        json!({"inputs": [tensor("text_input", json!([-1]), "BYTES", json!(["a"]))]}),
        json!({"inputs": [tensor("text_input", json!([1u64 << 40, 1u64 << 40]), "BYTES", json!(["a"]))]}),
        json!({"inputs": [tensor("text_input", json!([1]), "INT64", json!([1]))]}),
        json!({"inputs": [tensor("text_input", json!([1]), "FP64", json!([1]))]}),
        json!({"inputs": [tensor("text_input", json!([1]), "BYTES", json!([1]))]}),
        json!({"inputs": [one], "outputs": [{"name": "x"}]}),
        json!({"inputs": [one], "outputs": [{"name": "score"}, {"name": "score"}]}),
        json!({"inputs": [one], "parameters": []}),
        json!({"inputs": [one], "id": 3}),
    ];
    for request in bad {
        refused(send(&server, infer(&request)).await, Fault::BadRequest).await;
    }
    for parameters in [
        json!({"num_beam": 2}),
        json!({"max_new_tokens": 11}),
        json!({"num_beams": 2, "num_return_sequences": 2}),
        json!({"top_p": 2}),
    ] {
        refused(
            send(&server, infer(&json!({"inputs": [one], "parameters": parameters}))).await,
            Fault::InvalidParameter,
        )
        .await;
    }
}

#[tokio::test]
async fn generate_gives_what_was_asked_for_beside_the_text() {
    let (server, _) = french(&Limits::default());
    let request =
        json!({"id": "x", "text_input": "ab", "parameters": {"num_beams": 2, "num_return_sequences": 2}});
    for path in ["/v2/models/m/generate", "/v2/models/m/versions/1/generate"] {
        let expected = json!({
            "model_name": "m", "model_version": "1", "id": "x", "text_output": "AB", "finish_reason": "eos", "generated_tokens": 3,
            "score": -0.5, "source_tokens": 2,
            "alternatives": [{"text_output": "AB'", "finish_reason": "eos", "generated_tokens": 3, "score": -0.5}],
        });
        assert_eq!(body(send(&server, json_to(path, &request)).await).await, expected);
    }
    for wrong in [
        json!({}),
        json!({"text_input": ""}),
        json!({"text_input": 1}),
        json!({"text_input": "a", "x": 1}),
        json!({"text_input": "a", "parameters": 1}),
    ] {
        refused(send(&server, json_to("/v2/models/m/generate", &wrong)).await, Fault::BadRequest).await;
    }
}

/// The events of a stream.
fn events(stream: &str) -> Vec<Value> {
    let parse = |event: &str| {
        serde_json::from_str(event.split("data: ").nth(1).unwrap_or_else(|| panic!("no data in {event:?}")))
            .unwrap()
    };
    stream.split_terminator("\n\n").map(parse).collect()
}

fn stream(text: &str, parameters: &Value) -> Request<Body> {
    json_to("/v2/models/m/generate_stream", &json!({"text_input": text, "parameters": parameters}))
}

#[tokio::test]
async fn a_stream_sends_token_by_token_and_says_why_it_ends() {
    let (server, _) = french(&Limits::default());
    let response = send(&server, stream("hé", &json!({}))).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let events = events(&text(response).await);
    assert_eq!(
        events[0],
        json!({"index": 0, "text_output": "H", "token": {"id": 72, "text": "H", "logprob": -0.5}})
    );
    assert_eq!(events.len(), 3);
    assert_eq!(
        (&events[2]["index"], &events[2]["finish_reason"], &events[2]["generated_text"]),
        (&json!(2), &json!("eos"), &json!("HÉ"))
    );
    let whole: String = events.iter().map(|event| event["text_output"].as_str().unwrap()).collect();
    assert_eq!(whole, "HÉ");
}

#[tokio::test]
async fn a_stream_is_refused_before_it_begins_or_not_at_all() {
    let (server, _) = french(&Limits { max_input_tokens: 3, ..Limits::default() });
    refused(send(&server, stream("abcd", &json!({}))).await, Fault::TooLong).await;
    refused(send(&server, stream("a", &json!({"num_beams": 1000}))).await, Fault::InvalidParameter).await;
    refused(send(&server, stream("a", &json!({"max_new_tokens": 5000}))).await, Fault::InvalidParameter)
        .await;
    refused(send(&server, stream("\u{fffd}", &json!({}))).await, Fault::InvalidParameter).await;
    refused(
        send(&server, json_to("/v2/models/x/generate_stream", &json!({"text_input": "a"}))).await,
        Fault::NotFound,
    )
    .await;
}

#[tokio::test]
async fn a_stream_that_fails_on_the_way_ends_with_an_error_event() {
    for (text_input, error_type) in
        [("fail", "internal"), ("panic", "internal"), ("slowly forever", "deadline")]
    {
        let mut limits = Limits::default();
        if error_type == "deadline" {
            limits.request_timeout = std::time::Duration::from_millis(100);
        }
        let (server, _) = french(&limits);
        let response = send(&server, stream(text_input, &json!({}))).await;
        assert_eq!(response.status(), StatusCode::OK);
        let all = text(response).await;
        assert!(all.split_terminator("\n\n").last().unwrap().starts_with("event: error\ndata: {"), "{all}");
        assert_eq!(events(&all).last().unwrap()["error_type"], error_type);
        let page = text(send(&server, get("/metrics")).await).await;
        assert!(
            page.contains(&format!("s2s_request_failures_total{{error_type=\"{error_type}\"}} 1\n")),
            "{page}"
        );
    }
}

#[tokio::test]
async fn a_reader_who_leaves_a_stream_ends_its_decoding() {
    let (server, record) = french(&Limits::default());
    let mut response = send(&server, stream("forever", &json!({}))).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    until("the row is dropped", || record.cancelled.load(Ordering::Relaxed) == 1).await;
    let page = text(send(&server, get("/metrics")).await).await;
    assert!(page.contains("s2s_requests_cancelled_total{model=\"\"} 1\n"), "{page}");
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_texts_by_model() {
    let (server, _) = french(&Limits::default());
    let request = json!({"q": ["ab", "c"], "source": "en", "target": "fr"});
    send(&server, json_to("/translate", &request)).await;
    send(&server, get("/nothing/here")).await;
    send(&server, get("/v2/models/other/ready")).await;
    let response = send(&server, get("/metrics")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let page = text(response).await;
    for line in [
        "s2s_http_requests_total{method=\"POST\",path=\"/translate\",status=\"200\"} 1",
        "s2s_http_requests_total{method=\"GET\",path=\"other\",status=\"404\"} 1",
        "s2s_http_requests_total{method=\"GET\",path=\"/v2/models/{model}/ready\",status=\"404\"} 1",
        "s2s_request_failures_total{error_type=\"not_found\"} 2",
        "s2s_http_requests_in_flight 1",
        "s2s_inferences_total{model=\"\"} 2",
        "s2s_input_tokens_total{model=\"\"} 3",
        "s2s_generated_tokens_total{model=\"\"} 5",
        "s2s_queue_depth{model=\"m\"} 0",
        "s2s_model_ready{model=\"m\"} 1",
        "s2s_http_request_duration_seconds_count 3",
        "s2s_queue_duration_seconds_count{model=\"\"} 2",
        "# TYPE s2s_batch_size histogram",
    ] {
        assert!(page.lines().any(|each| each == line), "no line {line} in\n{page}");
    }
    // Every family is described once, before its values.
    let described: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(described.iter().collect::<BTreeSet<_>>().len(), described.len());
}

#[tokio::test]
async fn info_shows_models_and_limits() {
    let (server, _) = french(&Limits { max_queue: 9, ..Limits::default() });
    let info = body(send(&server, get("/info")).await).await;
    assert_eq!((&info["models"][0]["name"], &info["limits"]["max_queue"]), (&json!("m"), &json!(9)));
}
