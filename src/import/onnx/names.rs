//! Nodes and inputs in words, for messages.

use super::proto::{self, NodeProto, ValueInfo};

/// Whether a domain is that of ONNX's own operators.
pub fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// An input of a graph in words: name, type and shape as they are declared.
pub fn describe_input(value: &ValueInfo) -> String {
    let Some(tensor) = value.r#type.as_ref().and_then(|declared| declared.tensor_type.as_ref()) else {
        return format!("`{}`", value.name);
    };
    let size = |dim: &proto::Dimension| match dim.dim_value {
        Some(size) => size.to_string(),
        None if dim.dim_param.is_empty() => "?".into(),
        None => dim.dim_param.clone(),
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(size).collect::<Vec<_>>().join(", "));
    let shape = shape.map_or(String::new(), |shape| format!(" [{shape}]"));
    format!("`{}` {}{shape}", value.name, proto::type_name(tensor.elem_type))
}

/// A node in words: its operator, with its domain unless that is ONNX's own, and its name if it has one.
pub fn describe(node: &NodeProto) -> String {
    let domain = if is_onnx(&node.domain) { String::new() } else { format!("{}.", node.domain) };
    let name = if node.name.is_empty() { String::new() } else { format!(" `{}`", node.name) };
    // Names may hold anything; a message is one line.
    format!("{domain}{}{name}", node.op_type).escape_debug().to_string()
}
