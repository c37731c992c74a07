//! The argument `fields`: which members of an answer are wanted.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::members::Members;

/// The members that are wanted; `None`: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Option<HashSet<String>>);

/// What an answer is, as far as members of it can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An object.
    Object,
    /// Objects by their names. Where no member is wanted, the names are.
    Map,
    /// An array of objects.
    List,
}

impl Fields {
    /// By the value of the argument; `None`: it is not there.
    pub fn parse(value: Option<&[u8]>) -> Self {
        let text = value.map(String::from_utf8_lossy);
        let names =
            |text: &str| text.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        Self(text.as_deref().map(names))
    }

    /// An answer with what is wanted of it.
    ///
    /// # Errors
    /// Where the answer is not of this shape.
    pub fn of(&self, json: String, shape: Shape) -> Result<String, serde_json::Error> {
        let Some(wanted) = &self.0 else { return Ok(json) };
        let object = |json: &str| {
            let mut members: Members<&RawValue> = serde_json::from_str(json)?;
            members.0.retain(|(name, _)| wanted.contains(name));
            serde_json::value::to_raw_value(&members)
        };
        match shape {
            Shape::Object => object(&json).map(|object| object.get().to_owned()),
            Shape::List => {
                let list: Vec<&RawValue> = serde_json::from_str(&json)?;
                let list: Result<Vec<_>, _> = list.iter().map(|it| object(it.get())).collect();
                serde_json::to_string(&list?)
            }
            Shape::Map => {
                let map: Members<&RawValue> = serde_json::from_str(&json)?;
                if wanted.is_empty() {
                    let names: Vec<_> = map.0.iter().map(|(name, _)| name).collect();
                    return serde_json::to_string(&names);
                }
                let objects: Result<Vec<_>, _> =
                    map.0.iter().map(|(_, it)| object(it.get())).collect();
                let objects = objects?;
                let names = map.0.into_iter().map(|(name, _)| name);
                let members = names.zip(objects.iter().map(|object| &**object)).collect();
                serde_json::to_string(&Members(members))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let of = |fields: Option<&str>, json: &str, shape| {
            Fields::parse(fields.map(str::as_bytes)).of(json.to_owned(), shape).unwrap()
        };
        let object = r#"{"b":1,"a":{"b":2},"c":[{"b":3}]}"#;
        assert_eq!(of(None, object, Shape::Object), object);
        assert_eq!(of(Some("b"), object, Shape::Object), r#"{"b":1}"#);
        assert_eq!(of(Some("c,x,,b"), object, Shape::Object), r#"{"b":1,"c":[{"b":3}]}"#);
        assert_eq!(of(Some(""), object, Shape::Object), "{}");
        let map = r#"{"up":{"z":1,"y":2},"a":{"y":3}}"#;
        assert_eq!(of(None, map, Shape::Map), map);
        assert_eq!(of(Some("z"), map, Shape::Map), r#"{"up":{"z":1},"a":{}}"#);
        assert_eq!(of(Some(""), map, Shape::Map), r#"["up","a"]"#);
        assert_eq!(of(Some(","), "{}", Shape::Map), "[]");
        let list = r#"[{"z":1,"y":2},{"y":3}]"#;
        assert_eq!(of(Some("y"), list, Shape::List), r#"[{"y":2},{"y":3}]"#);
        assert_eq!(of(Some(""), list, Shape::List), "[{},{}]");
        assert!(Fields::parse(Some(b"\xff")).of("1".to_owned(), Shape::Object).is_err());
    }
}
