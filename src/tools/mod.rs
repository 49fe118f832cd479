//! What the command `tidegate` measures and draws with, for programs and web pages of your own. Feature `tools`.

pub mod bench;
pub mod cpu;
pub mod gates;
