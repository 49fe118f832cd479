//! Options out of a JavaScript object: a field that is misspelled, missing or of another type is an error that names it.

use js_sys::{Array, Float32Array, Object, Reflect, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::Result;

/// The largest whole number below which a double holds all others.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// An object of options.
#[derive(Debug)]
pub struct Fields {
    object: Option<Object>,
}

impl Fields {
    /// Takes `undefined` as an object without fields. One with any field that is not among `known` is refused.
    pub fn new(value: JsValue, known: &[&[&str]]) -> Result<Self> {
        if value.is_undefined() || value.is_null() {
            return Ok(Self { object: None });
        }
        let object: Object = value.dyn_into().map_err(|_| JsError::new("options: expected an object"))?;
        for key in Object::keys(&object).iter().filter_map(|key| key.as_string()) {
            if !known.iter().any(|names| names.contains(&key.as_str())) {
                return Err(JsError::new(&format!("unknown option `{key}`; known: {}", known.concat().join(", "))));
            }
        }
        Ok(Self { object: Some(object) })
    }

    /// Nothing where it is not there, or undefined or null.
    fn get(&self, name: &str) -> Option<JsValue> {
        let value = Reflect::get(self.object.as_ref()?, &name.into()).ok()?;
        (!value.is_undefined() && !value.is_null()).then_some(value)
    }

    fn typed<T>(&self, name: &str, expected: &str, read: impl FnOnce(JsValue) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = shown(&value);
        read(value).map(Some).ok_or_else(|| JsError::new(&format!("`{name}`: expected {expected}, got {text}")))
    }

    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", |value| value.as_f64())
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", |value| value.as_bool())
    }

    pub fn text(&self, name: &str) -> Result<Option<String>> {
        self.typed(name, "a string", |value| value.as_string())
    }

    pub fn f32s(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.typed(name, "a Float32Array", |value| value.dyn_into::<Float32Array>().ok().map(|array| array.to_vec()))
    }

    pub fn u32s(&self, name: &str) -> Result<Option<Vec<u32>>> {
        self.typed(name, "a Uint32Array", |value| value.dyn_into::<Uint32Array>().ok().map(|array| array.to_vec()))
    }

    fn whole(&self, name: &str, most: f64) -> Result<Option<f64>> {
        let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..=most).contains(number);
        self.typed(name, &format!("a whole number of 0 to {most}"), |value| value.as_f64().filter(is_whole))
    }

    /// A size, if it is there.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        Ok(self.whole(name, u32::MAX.into())?.map(|number| number as usize))
    }

    /// A size that has no default.
    pub fn needed_size(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| JsError::new(&format!("option `{name}` is needed")))
    }

    pub fn seed(&self, name: &str) -> Result<u64> {
        Ok(self.whole(name, MAX_SAFE)?.unwrap_or_default() as u64)
    }

    /// One of some names, else the first.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T> {
        let Some(text) = self.text(name)? else { return Ok(choices[0].1) };
        choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            JsError::new(&format!("unknown {name} `{text}`; known: {}", known.join(", ")))
        })
    }
}

/// A value as an error shows it: arrays and objects by their kind alone.
fn shown(value: &JsValue) -> String {
    match value.dyn_ref::<Object>() {
        Some(object) if Array::is_array(value) => format!("an array of {}", Array::from(object).length()),
        Some(object) => object.constructor().name().into(),
        None => format!("{value:?}"),
    }
}
