//! The getters of the public class: reads what the core knows and converts it.

use napi::bindgen_prelude::{Object, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::binding::error::invalid_argument;
use crate::binding::objects::{HealthStatus, Inspection, ServiceMetrics, ServiceStats};
use crate::binding::service::WebSocketService;
use crate::binding::{health, values};
use crate::shard::probe;
use crate::types::{BillId, UnixMillis};

#[napi]
impl WebSocketService {
    #[napi]
    pub fn get_stats(&self, env: Env) -> Result<ServiceStats> {
        self.guarded(env, "getStats", |instance| {
            Ok(ServiceStats::new(&instance.core().statistics(), &instance.core().counts(), UnixMillis::now()))
        })
    }

    #[napi]
    pub fn get_health_status(&self, env: Env) -> Result<HealthStatus> {
        self.guarded(env, "getHealthStatus", |instance| instance.health(&env))
    }

    #[napi]
    pub fn get_metrics(&self, env: Env) -> Result<ServiceMetrics> {
        self.guarded(env, "getMetrics", |instance| {
            let core = instance.core();
            Ok(ServiceMetrics::new(&core.statistics(), &core.counts(), &mut core.latencies(), &core.history()))
        })
    }

    /// Sizes of everything the service keeps, and the memory of the process.
    #[napi(ts_return_type = "MemoryAnalysis")]
    pub fn force_memory_analysis<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "forceMemoryAnalysis", |instance| {
            health::analysis(env, instance.core(), &instance.base_config())
        })
    }

    /// Prometheus text exposition format 0.0.4.
    #[napi]
    pub fn metrics_text(&self, env: Env) -> Result<String> {
        self.guarded(env, "metricsText", |instance| Ok(instance.core().metrics_text(instance.event_loop_delay())))
    }

    /// The slowest consumers, the largest topics and the shards, for diagnosis. The state is up to about a second old. `top`: the maximum
    /// number of entries in each list, 0 to 100. @default 10
    #[napi(ts_args_type = "options?: { top?: number | undefined }")]
    pub fn inspect(&self, env: Env, options: Option<Unknown<'_>>) -> Result<Inspection> {
        self.guarded(env, "inspect", |instance| {
            let top = match options.as_ref().filter(|options| !values::is_absent(options)) {
                None => None,
                Some(given) => {
                    let object = values::as_object(given)
                        .ok_or_else(|| invalid_argument(env, "options", "an object", values::kind(given)))?;
                    Some(values::property(&object, "top")?).filter(|top| !values::is_absent(top))
                }
            };
            let top = match top {
                None => probe::TOP.min(10),
                Some(given) => values::as_number(&given)
                    .filter(|top| top.fract() == 0.0 && (0.0..=probe::TOP as f64).contains(top))
                    .map(|top| top as usize)
                    .ok_or_else(|| {
                        invalid_argument(env, "options.top", "an integer from 0 to 100", values::kind(&given))
                    })?,
            };
            Ok(Inspection::new(instance.core().inspect(top), instance.core().degradation_level()))
        })
    }

    /// The bills that any open connection of the user follows, in the order they were first followed.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn get_user_subscriptions(&self, env: Env, user_id: Unknown<'_>) -> Result<Vec<f64>> {
        self.guarded(env, "getUserSubscriptions", |instance| {
            let Some(user) = read_user(env, &user_id)? else { return Ok(Vec::new()) };
            Ok(instance.core().user_subscriptions(&user).iter().map(|bill| bill.get() as f64).collect())
        })
    }

    /// Whether the user has an open connection.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn is_user_connected(&self, env: Env, user_id: Unknown<'_>) -> Result<bool> {
        self.guarded(env, "isUserConnected", |instance| {
            let user = read_user(env, &user_id)?;
            Ok(user.is_some_and(|user| instance.core().connection_count(&user) > 0))
        })
    }

    /// How many open connections the user has.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn get_connection_count(&self, env: Env, user_id: Unknown<'_>) -> Result<u32> {
        self.guarded(env, "getConnectionCount", |instance| {
            let user = read_user(env, &user_id)?;
            let count = user.map_or(0, |user| instance.core().connection_count(&user));
            Ok(u32::try_from(count).unwrap_or(u32::MAX))
        })
    }

    /// The users with an open connection, in the order of their oldest one.
    #[napi]
    pub fn get_all_connected_users(&self, env: Env) -> Result<Vec<String>> {
        self.guarded(env, "getAllConnectedUsers", |instance| {
            Ok(instance.core().connected_users().iter().map(ToString::to_string).collect())
        })
    }

    /// The users with a connection that follows the bill, each once.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a number nor absent
    #[napi(ts_args_type = "billId: number")]
    pub fn get_bill_subscribers(&self, env: Env, bill_id: Unknown<'_>) -> Result<Vec<String>> {
        self.guarded(env, "getBillSubscribers", |instance| {
            let number = values::as_number(&bill_id);
            if number.is_none() && !values::is_absent(&bill_id) {
                return Err(invalid_argument(env, "billId", "a number", values::kind(&bill_id)));
            }
            let subscribers = number.and_then(BillId::from_f64).map(|bill| instance.core().bill_subscribers(bill));
            Ok(subscribers.unwrap_or_default().iter().map(ToString::to_string).collect())
        })
    }

    #[napi(getter, ts_return_type = "'stopped' | 'running' | 'stopping'")]
    pub fn state(&self, env: Env) -> Result<&'static str> {
        self.guarded(env, "state", |instance| Ok(instance.core().state().as_str()))
    }
}

/// `None` if it is absent: no user has that name.
fn read_user(env: Env, user: &Unknown<'_>) -> Result<Option<String>> {
    match values::as_string(user) {
        None if !values::is_absent(user) => Err(invalid_argument(env, "userId", "a string", values::kind(user))),
        name => Ok(name),
    }
}
