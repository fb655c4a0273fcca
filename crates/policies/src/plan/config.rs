//! The settings of `plan`.

use daemun_config::settings;

settings! {
    /// Plans of callers; there is nothing to be set.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct PlanConfig {}
}
