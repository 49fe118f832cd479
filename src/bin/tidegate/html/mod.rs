//! What pages that need no network have in common.

pub mod report;

use serde::Serialize;

use crate::Result;

/// The look of all pages.
pub const STYLE: &str = include_str!("page.css");

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// JSON for a script element: no `<` in a name may end the element that holds it.
pub fn script_json(data: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(data)?.replace('<', "\\u003c"))
}
