//! JSON objects of other versions and programs: what is absent or null is unknown, what has the wrong type is named.

use serde_json::{Map, Value};

use crate::Result;

/// An object and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    place: &'a str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(place: &'a str, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(object) => Ok(Self { place, object }),
            other if place.is_empty() => Err(format!("expected an object, found {}", shown(other)).into()),
            other => Err(format!("`{place}`: expected an object, found {}", shown(other)).into()),
        }
    }

    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The name with the place before it.
    fn full(self, name: &str) -> String {
        if self.place.is_empty() { name.into() } else { format!("{}.{name}", self.place) }
    }

    fn read<T>(self, name: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let found = || format!("`{}`: expected {expected}, found {}", self.full(name), shown(value)).into();
        read(value).map(Some).ok_or_else(found)
    }

    pub fn text(self, name: &str) -> Result<Option<&'a str>> {
        self.read(name, "text", Value::as_str)
    }

    pub fn flag(self, name: &str) -> Result<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub fn whole(self, name: &str) -> Result<Option<u64>> {
        self.read(name, "a whole number", Value::as_u64)
    }

    pub fn number(self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number", Value::as_f64)
    }

    /// A time, a rate or a size: nothing is measured as 0 of it.
    pub fn positive(self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number above 0", |value| value.as_f64().filter(|&number| number > 0.0 && number.is_finite()))
    }

    pub fn list(self, name: &str) -> Result<Option<&'a [Value]>> {
        self.read(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    pub fn object(self, name: &str) -> Result<Option<&'a Value>> {
        self.read(name, "an object", |value| value.is_object().then_some(value))
    }

    pub fn required<T>(self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| format!("`{}`: missing", self.full(name)).into())
    }
}

/// A value short enough for one line.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 40;
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(object) => format!("an object of {} fields", object.len()),
        other => {
            let text = other.to_string();
            if text.chars().count() <= LONGEST { text } else { format!("{}...", text.chars().take(LONGEST).collect::<String>()) }
        }
    }
}
