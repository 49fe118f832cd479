//! What the cells' gates and states are, in words.

/// What happens where a gate is shut, and where it is open.
#[derive(Debug, Clone, Copy)]
pub struct Meaning {
    /// Under 0.1.
    pub shut: &'static str,
    /// Over 0.9.
    pub open: &'static str,
}

/// The formula of a cell.
pub fn formula(cell: &str) -> &'static str {
    match cell {
        "lstm" => "c' = f·c + i·g, h' = o·tanh(c')",
        "gru" => "n = tanh(wx + r·rh), h' = (1−z)·n + z·h",
        "gru_reset_before" => "n = tanh(wx + R·(r·h)), h' = (1−z)·n + z·h",
        "binary_gate" => "h' = g·n + (1−g)·h with g of 0 or 1",
        "rnn_linear" => "h' = wx + rh: no gate, every step renews the whole state",
        "rnn_tanh" => "h' = tanh(wx + rh): no gate, every step renews the whole state",
        "rnn_relu" => "h' = max(0, wx + rh): no gate, every step renews the whole state",
        _ => "h' = f(wx + rh): no gate, every step renews the whole state",
    }
}

/// What a gate, candidate or state of a cell is; of a gate also what it does.
pub(super) fn meaning(cell: &str, name: &str) -> (&'static str, Option<Meaning>) {
    let gate = |about, shut, open| (about, Some(Meaning { shut, open }));
    match (cell, name) {
        ("lstm", "i") => gate("input gate", "g is kept out of c", "g is added to c"),
        ("lstm", "f") => gate("forget gate", "c is forgotten", "c is copied"),
        ("lstm", "o") => gate("output gate", "c is hidden from h", "c shows in h"),
        ("gru" | "gru_reset_before", "r") => gate("reset gate", "n ignores the old h", "n sees the old h"),
        ("gru" | "gru_reset_before", "z") => gate("update gate", "h is renewed by n", "h is copied"),
        ("binary_gate", "g") => gate("binary gate", "h is copied", "h is renewed by n"),
        (_, "g" | "n") => ("candidate", None),
        (_, "c") => ("cell state", None),
        _ => ("hidden state", None),
    }
}
