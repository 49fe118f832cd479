//! How each family lays out a layer: a table.

use super::name::Family;

/// Which of a layer's tensors a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    WeightIh,
    WeightHh,
    BiasIh,
    BiasHh,
    /// The input's, then the recurrent one.
    Biases,
}
use Target::{BiasHh, BiasIh, Biases, WeightHh, WeightIh};

/// How a part lies, with G blocks of H and n inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[n, G·H]`.
    Columns,
    /// `[n, G·H]`, in which the memory of each block of columns, `[n, H]`, is that of `[H, n]`.
    Reshaped,
    /// `[G·H, n]`.
    Rows,
    /// `[G·H, n]` or, in older versions, `[n, G·H]`: whichever the recurrent weights are.
    Either,
    /// `[G·H]`.
    Vector,
}
use Form::{Columns, Either, Reshaped, Rows, Vector};

/// One tensor of a layer.
pub(super) struct Part {
    pub name: &'static str,
    pub target: Target,
    pub form: Form,
    /// Which of our gates each of its blocks is.
    pub gates: &'static [usize],
}

const fn part(name: &'static str, target: Target, form: Form, gates: &'static [usize]) -> Part {
    Part { name, target, form, gates }
}

/// A layer of a family.
pub(super) struct Layer {
    pub family: Family,
    pub cell: &'static str,
    /// Names that tell it from the others.
    pub told_by: &'static [&'static str],
    pub parts: &'static [Part],
}

/// Ours are i, f, g, o of an LSTM and r, z, n of a GRU.
const ZRN: &[usize] = &[1, 0, 2];
const RZN: &[usize] = &[0, 1, 2];
const IFGO: &[usize] = &[0, 1, 2, 3];
const IGFO: &[usize] = &[0, 2, 1, 3];

/// Flax' newer modules (nnx) have one matrix for all gates.
const DENSE: &[&str] = &["dense_i.kernel", "dense_h.kernel"];

pub(super) const TABLE: &[Layer] = &[
    Layer {
        family: Family::Haste,
        cell: "lstm",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Columns, IGFO),
            part("recurrent_kernel", WeightHh, Columns, IGFO),
            part("bias", BiasIh, Vector, IGFO),
        ],
    },
    Layer {
        family: Family::Haste,
        cell: "gru",
        told_by: &["kernel", "recurrent_kernel", "recurrent_bias"],
        parts: &[
            part("kernel", WeightIh, Columns, ZRN),
            part("recurrent_kernel", WeightHh, Columns, ZRN),
            part("bias", BiasIh, Vector, ZRN),
            part("recurrent_bias", BiasHh, Vector, ZRN),
        ],
    },
    Layer {
        family: Family::CuDnn,
        cell: "lstm",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Reshaped, IFGO),
            part("recurrent_kernel", WeightHh, Reshaped, IFGO),
            part("bias", Biases, Vector, IFGO),
        ],
    },
    Layer {
        family: Family::CuDnn,
        cell: "gru",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Reshaped, ZRN),
            part("recurrent_kernel", WeightHh, Reshaped, ZRN),
            part("bias", Biases, Vector, ZRN),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "lstm",
        told_by: &["if.kernel", "hf.kernel"],
        parts: &[
            part("ii.kernel", WeightIh, Columns, &[0]),
            part("if.kernel", WeightIh, Columns, &[1]),
            part("ig.kernel", WeightIh, Columns, &[2]),
            part("io.kernel", WeightIh, Columns, &[3]),
            part("hi.kernel", WeightHh, Columns, &[0]),
            part("hf.kernel", WeightHh, Columns, &[1]),
            part("hg.kernel", WeightHh, Columns, &[2]),
            part("ho.kernel", WeightHh, Columns, &[3]),
            part("hi.bias", BiasHh, Vector, &[0]),
            part("hf.bias", BiasHh, Vector, &[1]),
            part("hg.bias", BiasHh, Vector, &[2]),
            part("ho.bias", BiasHh, Vector, &[3]),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "gru",
        told_by: &["ir.kernel", "hn.kernel"],
        parts: &[
            part("ir.kernel", WeightIh, Columns, &[0]),
            part("iz.kernel", WeightIh, Columns, &[1]),
            part("in.kernel", WeightIh, Columns, &[2]),
            part("hr.kernel", WeightHh, Columns, &[0]),
            part("hz.kernel", WeightHh, Columns, &[1]),
            part("hn.kernel", WeightHh, Columns, &[2]),
            part("ir.bias", BiasIh, Vector, &[0]),
            part("iz.bias", BiasIh, Vector, &[1]),
            part("in.bias", BiasIh, Vector, &[2]),
            part("hn.bias", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "rnn_tanh",
        told_by: &["i.kernel", "h.kernel"],
        parts: &[
            part("i.kernel", WeightIh, Columns, &[0]),
            part("h.kernel", WeightHh, Columns, &[0]),
            part("i.bias", BiasIh, Vector, &[0]),
            part("h.bias", BiasHh, Vector, &[0]),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "lstm",
        told_by: DENSE,
        parts: &[
            part("dense_i.kernel", WeightIh, Columns, IFGO),
            part("dense_h.kernel", WeightHh, Columns, IFGO),
            part("dense_h.bias", BiasHh, Vector, IFGO),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "gru",
        told_by: DENSE,
        parts: &[
            part("dense_i.kernel", WeightIh, Columns, RZN),
            part("dense_h.kernel", WeightHh, Columns, RZN),
            part("dense_i.bias", BiasIh, Vector, RZN),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "rnn_tanh",
        told_by: DENSE,
        parts: &[
            part("dense_i.kernel", WeightIh, Columns, &[0]),
            part("dense_h.kernel", WeightHh, Columns, &[0]),
            part("dense_i.bias", BiasIh, Vector, &[0]),
        ],
    },
    Layer {
        family: Family::Mlx,
        cell: "gru",
        told_by: &["Wx", "Wh"],
        parts: &[
            part("Wx", WeightIh, Either, RZN),
            part("Wh", WeightHh, Either, RZN),
            part("b", BiasIh, Vector, RZN),
            part("bhn", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Mlx,
        cell: "lstm",
        told_by: &["Wx", "Wh"],
        parts: &[part("Wx", WeightIh, Either, IFGO), part("Wh", WeightHh, Either, IFGO), part("bias", BiasIh, Vector, IFGO)],
    },
    Layer {
        family: Family::Mlx,
        cell: "rnn_tanh",
        told_by: &["Wxh", "Whh"],
        parts: &[part("Wxh", WeightIh, Either, &[0]), part("Whh", WeightHh, Either, &[0]), part("bias", BiasIh, Vector, &[0])],
    },
    Layer {
        family: Family::Equinox,
        cell: "gru",
        told_by: &["weight_ih", "weight_hh", "bias_n"],
        parts: &[
            part("weight_ih", WeightIh, Rows, RZN),
            part("weight_hh", WeightHh, Rows, RZN),
            part("bias", BiasIh, Vector, RZN),
            part("bias_n", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Equinox,
        cell: "lstm",
        told_by: &["weight_ih", "weight_hh", "bias"],
        parts: &[
            part("weight_ih", WeightIh, Rows, IFGO),
            part("weight_hh", WeightHh, Rows, IFGO),
            part("bias", BiasIh, Vector, IFGO),
        ],
    },
];
