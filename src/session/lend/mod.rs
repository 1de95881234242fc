//! Lends databases: each borrower gets one that nobody else has, with the data of the seeds.
//!
//! The sandbox of the session holds the data. A [`source::Source`] makes databases from it and removes those that are
//! given back; one file for each kind. [`shelf`] decides what is made, lent and removed (pure); [`server`] performs it
//! and speaks with the clients ([`protocol`]).

mod address;
mod choose;
mod console;
pub mod lent_service;
mod postgres;
pub mod protocol;
mod redis;
pub mod server;
mod shelf;
mod source;
mod whole;

pub use choose::SourceChoice;
