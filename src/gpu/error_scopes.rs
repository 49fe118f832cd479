//! wgpu's errors, caught by scopes before they reach the app's handler.
//!
//! Natively a scope returns its error immediately. In browsers it does so when the event loop gets to it, so the error is that of a
//! later call: the next that can be awaited, or that finds it there already.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use wgpu::{Device, ErrorFilter};

/// In browsers wgpu 30 panics on what an internal scope catches; there such errors stay in the browser's log.
#[cfg(not(target_arch = "wasm32"))]
const FILTERS: [ErrorFilter; 3] = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
#[cfg(target_arch = "wasm32")]
const FILTERS: [ErrorFilter; 2] = [ErrorFilter::OutOfMemory, ErrorFilter::Validation];

#[cfg(not(target_arch = "wasm32"))]
type Told = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Told = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// The scopes of one device that have not returned yet.
#[derive(Default)]
pub(crate) struct ErrorScopes(Mutex<Vec<Told>>);

impl ErrorScopes {
    /// Runs `call`; returns the first error that wgpu reports for it, or for a call before.
    pub fn catch<T>(&self, device: &Device, call: impl FnOnce() -> T) -> (T, Option<wgpu::Error>) {
        let scopes = FILTERS.map(|filter| device.push_error_scope(filter));
        let value = call();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(scopes.into_iter().rev().map(|scope| Box::pin(scope.pop()) as Told));
        let mut first = None;
        waiting.retain_mut(|told| match told.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => {
                first = first.take().or(error);
                false
            }
            Poll::Pending => true,
        });
        (value, first)
    }

    /// The first error of all calls so far that was not returned yet.
    pub async fn settle(&self) -> Option<wgpu::Error> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut first = None;
        for told in waiting {
            let error = told.await;
            first = first.or(error);
        }
        first
    }
}
