//! What a client asks the API: a path, arguments and a body.
//!
//! An input has in its first lines the path as nginx understood it, the one that was asked for, the
//! location, the arguments and the type of the body, and then the body. Where the first line is
//! empty, nginx only decoded the path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::api::{self, Feedback, Refusal, Resource};
use ngx_checkups::logic::plus::fields::{Fields, Shape};
use ngx_checkups::logic::plus::{body, place};
use percent_encoding::percent_decode;
use serde_json::{json, Value};

fuzz_target!(|input: &[u8]| {
    let lines: Vec<_> = input.splitn(6, |byte| *byte == b'\n').collect();
    let [uri, unparsed, location, arguments, content_type, body] = lines[..] else { return };
    path(uri, unparsed, location);
    select(arguments);
    api::is_json(Some(content_type));
    feedback(body);
    server(body);
    fields(arguments, body);
});

fn path(uri: &[u8], unparsed: &[u8], location: &[u8]) {
    let decoded: Vec<u8>;
    let uri = if uri.is_empty() {
        decoded = percent_decode(unparsed.split(|byte| *byte == b'?').next().unwrap()).collect();
        &decoded
    } else {
        uri
    };
    let Some(segments) = api::segments(uri, unparsed, location) else { return };

    // Nothing of the path is lost but one slash at its end.
    let mut path = location.strip_suffix(b"/").unwrap_or(location).to_vec();
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment.as_bytes());
    }
    assert!(path == uri || [&path[..], b"/"].concat() == uri, "{segments:?}");

    if place::is_versioned(&segments) {
        match place::Place::at(&segments) {
            Ok(place) => assert!(place.allow().starts_with("GET, HEAD")),
            Err(refusal) => assert_eq!(refusal.problem().status, 404),
        }
        assert_eq!(Resource::at(&segments), None);
        return;
    }
    let Some(resource) = Resource::at(&segments) else { return };
    assert!(!resource.allow().is_empty());
    if let Resource::Cluster(name)
    | Resource::Select(name)
    | Resource::Feedback { cluster: name, .. } = resource
    {
        assert!(!name.is_empty());
        assert_eq!(name, segments[1]);
    }
}

fn select(arguments: &[u8]) {
    let (key, order) = api::select_arguments(arguments);
    for value in [key, order].into_iter().flatten() {
        assert!(value.len() < arguments.len());
    }
    // A value that was encoded comes out as it was.
    let encoded = percent_encoding::percent_encode(arguments, percent_encoding::NON_ALPHANUMERIC);
    let (key, order) = api::select_arguments(format!("a&order={encoded}&key&key=x").as_bytes());
    assert_eq!((key, order), (Some(Vec::new()), Some(arguments.to_vec())));
}

fn feedback(body: &[u8]) {
    match api::feedback(body) {
        Ok(Feedback { failed }) => {
            let value: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(value, json!({ "failed": failed }));
        }
        Err(refusal) => {
            let problem = refusal.problem();
            let body: Value = serde_json::from_str(&problem.body("id")).unwrap();
            assert_eq!(body["error"]["status"], problem.status);
            let Refusal::BodyInvalid(sentence) = refusal else { panic!("{refusal:?}") };
            assert!(!sentence.is_empty() && sentence.len() <= api::MAX_SENTENCE, "{sentence:?}");
            assert_eq!(body["error"]["text"], sentence);
        }
    }
}

/// A server in the words of NGINX Plus.
fn server(sent: &[u8]) {
    for change in [body::addition(sent), body::modification(0, sent)] {
        let Err(refusal) = change else { continue };
        let problem = refusal.problem();
        assert!(matches!(problem.status, 400 | 415), "{problem:?}");
        assert!(problem.status == 400 || serde_json::from_slice::<Value>(sent).is_err());
    }
}

fn fields(arguments: &[u8], json: &[u8]) {
    let Ok(Value::Object(object)) = serde_json::from_slice(json) else { return };
    let json = serde_json::to_string(&object).unwrap();
    // A number may be written otherwise than it was read.
    let object: Value = serde_json::from_str(&json).unwrap();
    let fields = Fields::parse(api::fields(arguments).as_deref());
    let Ok(shown) = fields.of(json.clone(), Shape::Object) else { panic!("{json}") };
    let shown: Value = serde_json::from_str(&shown).unwrap();
    // Nothing comes that was not there.
    assert!(shown.as_object().unwrap().iter().all(|(name, value)| object[name] == *value));
}
