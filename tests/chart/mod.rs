//! The chart: what it renders, which rights it gives, and the life of a release: installed by Helm, tried, at work,
//! upgraded, uninstalled.

mod accepted;
mod release;
mod rendered;
mod rights;
mod schemas;
mod support;
