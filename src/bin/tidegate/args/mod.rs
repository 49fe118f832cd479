//! What the commands have in common: devices, files, exit statuses, interrupts.

pub mod device;
pub mod exit;
pub mod files;
pub mod interrupt;
