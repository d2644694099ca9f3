//! The state that the handlers of a service share.

/// Makes a state of one pointer, and lets a handler extract any of its fields. A state is copied
/// several times for every request, so it should be no more than that.
#[macro_export]
macro_rules! state {
    ($state:ident($fields:ident): $($field:ident: $type:ty),* $(,)?) => {
        /// The handlers' shared state. It is copied for every request, so it is one pointer.
        #[derive(Clone)]
        pub(crate) struct $state(::std::sync::Arc<$fields>);

        impl $state {
            fn new(fields: $fields) -> Self {
                Self(::std::sync::Arc::new(fields))
            }
        }

        impl ::std::ops::Deref for $state {
            type Target = $fields;

            fn deref(&self) -> &$fields {
                &self.0
            }
        }

        $(
            impl ::axum::extract::FromRef<$state> for $type {
                fn from_ref(state: &$state) -> Self {
                    state.$field.clone()
                }
            }
        )*
    };
}
