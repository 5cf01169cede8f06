//! `listen()` of a service: opens its port, starts the core if it does not run, and settles the promise.
//!
//! Runs on Node's thread. Reading the argument and binding are in `listen`.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{Object, Unknown};
use napi::{Env, Result};

use crate::application::interface::LifecycleState;
use crate::binding::error::exception;
use crate::binding::instance::Instance;
use crate::binding::listen;
use crate::binding::objects::ListenAddress;
use crate::binding::thread_bound::ThreadBound;
use crate::binding::{guard, listen::Request};
use crate::error::{Error, ErrorKind};

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

type Settle = Box<dyn FnOnce(Env) -> Result<ListenAddress>>;

/// Returns the promise of the address.
pub fn listen<'env>(instance: &Rc<Instance>, env: &'env Env, options: &Unknown<'_>) -> Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred::<ListenAddress, Settle>()?;
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let request = match listen::parse(options)?.and_then(|request| begin(instance, env, attempt, request)) {
        Ok(request) => request,
        Err(error) => {
            deferred.resolve(Box::new(move |env| Err(exception(env, &error))));
            return Ok(promise);
        }
    };
    let handle = ThreadBound::new(instance.clone());
    let tls = request.tls.clone();
    let settle = move |bound| {
        deferred.resolve(Box::new(move |env| match handle.get() {
            Some(instance) => {
                let serve = || guard::call(env, "listen", || serve(instance, &env, attempt, bound, tls));
                instance.dispatcher().logged(serve)
            }
            None => Err(exception(env, &Error::new(ErrorKind::Internal, "a port was opened on another thread"))),
        }));
    };
    if let Err(error) = listen::bind_elsewhere(&request, settle) {
        instance.port().close();
        return Err(exception(*env, &error));
    }
    Ok(promise)
}

/// Checks what can be checked before the port is taken.
fn begin(instance: &Instance, env: &Env, attempt: u64, request: Request) -> std::result::Result<Request, Error> {
    if instance.core().state() == LifecycleState::Stopping {
        return Err(Error::new(ErrorKind::AlreadyRunning, "the service is stopping"));
    }
    instance.check_key(env)?;
    instance.port().open(attempt)?;
    Ok(request)
}

/// The port is bound, or could not be.
fn serve(
    instance: &Rc<Instance>,
    env: &Env,
    attempt: u64,
    bound: std::result::Result<TcpListener, Error>,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<ListenAddress> {
    if !instance.port().is_opening(attempt) {
        let error = Error::new(ErrorKind::ListenFailed, "the service was shut down before it listened");
        return Err(exception(*env, &error));
    }
    let opened = bound.map_err(|error| exception(*env, &error)).and_then(|port| {
        let address = port.local_addr().map_err(|cause| {
            let error = Error::new(ErrorKind::ListenFailed, "the port has no address").caused_by(cause);
            exception(*env, &error)
        })?;
        let keep_alive = listen::keep_alive(env, instance.clone())?;
        let was_stopped = instance.core().state() == LifecycleState::Stopped;
        if was_stopped {
            instance.start(env)?;
        }
        if let Err(error) = instance.core().listen(port, tls) {
            if was_stopped {
                instance.core().stop();
            }
            return Err(exception(*env, &error));
        }
        Ok((keep_alive, address))
    });
    match opened {
        Ok((keep_alive, address)) => {
            instance.port().opened(keep_alive);
            Ok(ListenAddress { port: u32::from(address.port()), host: address.ip().to_string() })
        }
        Err(failure) => {
            instance.port().close();
            Err(failure)
        }
    }
}
