//! What the handlers of a service share.

/// Makes a state of one pointer, and lets a handler take any of its parts by itself. A state is copied
/// several times for every request, so it should be no more than that.
#[macro_export]
macro_rules! state {
    ($state:ident($parts:ident): $($part:ident: $type:ty),* $(,)?) => {
        /// What the handlers share. It is copied for every request, so it is one pointer.
        #[derive(Clone)]
        pub(crate) struct $state(::std::sync::Arc<$parts>);

        impl $state {
            fn new(parts: $parts) -> Self {
                Self(::std::sync::Arc::new(parts))
            }
        }

        impl ::std::ops::Deref for $state {
            type Target = $parts;

            fn deref(&self) -> &$parts {
                &self.0
            }
        }

        $(
            impl ::axum::extract::FromRef<$state> for $type {
                fn from_ref(state: &$state) -> Self {
                    state.$part.clone()
                }
            }
        )*
    };
}
