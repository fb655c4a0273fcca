//! The macro that makes a settings type out of its description.

/// Defines a settings type: a struct that is read from a mapping, or an enum that is read from a word or a mapping of one key.
///
/// The doc comments are the documentation of the keys, in the reference page and in the JSON Schema; only `#[derive(…)]` may
/// stand beside them, behind the comments. A field is required unless it has a default or its type says what absence means
/// (`Option<T>`). A default is written as an operator would write it, in quotes: `= "5s"`, `= "[GET, HEAD]"`. A key that is not
/// a Rust name or a keyword is given behind the type: `matches: Match as "match"`.
///
/// Parts that may follow a struct, in this order: `beside field: Type;`, other settings whose keys stand in the same mapping, and have none
/// beside them; `not_available { "key", … }`, keys of the language that are refused as not
/// built; `exclusive { "a", "b" }`, keys of which one at most may be given; `needs_one { "a", "b" }`, keys of which one at least
/// must be given; `check path;`, a `fn(&Self, &Node, &mut Decoder<'_>)` for what spans fields otherwise. `not_available` may
/// follow an enum as well.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:path),* $(,)?)])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field_vis:vis $field:ident : $type:ty $(as $key:literal)? $(= $default:literal)?
            ),* $(,)?
        }
        $(beside $beside:ident : $beside_type:ty;)?
        $(not_available { $($missing:literal),* $(,)? })?
        $(exclusive { $($exclusive:literal),* $(,)? })?
        $(needs_one { $($needed:literal),* $(,)? })?
        $(check $check:path;)?
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])*
        $vis struct $name {
            $($(#[doc = $field_doc])* $field_vis $field: $type,)*
            $(
                /// What stands beside them.
                pub $beside: $beside_type,
            )?
        }

        impl $crate::decode::Setting for $name {
            fn decode(
                node: &$crate::tree::Node,
                cx: &mut $crate::decode::Decoder<'_>,
            ) -> ::core::option::Option<Self> {
                $crate::decode::Settings::decode_keys(node, true, cx)
            }

            fn schema(s: &mut $crate::decode::SchemaBuilder<'_>) -> $crate::decode::JsonValue {
                s.define(stringify!($name), |s| {
                    let mut object = $crate::decode::Object::new(&[$($doc),*]);
                    <Self as $crate::decode::Settings>::describe(&mut object, s);
                    object.build()
                })
            }
        }

        impl $crate::decode::Settings for $name {
            const KEYS: &'static [&'static str] = &[$($crate::settings!(@key $field $($key)?)),*];

            fn decode_keys(
                node: &$crate::tree::Node,
                alone: bool,
                cx: &mut $crate::decode::Decoder<'_>,
            ) -> ::core::option::Option<Self> {
                const NOT_AVAILABLE: &[&str] = &[$($($missing),*)?];
                const BESIDE: &[&[&str]] = &[$(<$beside_type as $crate::decode::Settings>::KEYS)?];
                let entries = cx.map_of(node, Self::KEYS)?;
                $(cx.exclusive(entries, &[$($exclusive),*]);)?
                $(cx.needs_one(node, entries, &[$($needed),*]);)?
                $(let mut $field: $crate::decode::Slot<$type> = ::core::option::Option::None;)*
                for entry in entries {
                    $(
                        if entry.key == $crate::settings!(@key $field $($key)?) {
                            $field = cx.field(entry);
                            continue;
                        }
                    )*
                    if alone && !BESIDE.iter().any(|keys| keys.contains(&&*entry.key)) {
                        cx.unknown_key(entry, &[&[Self::KEYS], BESIDE].concat().concat(), NOT_AVAILABLE);
                    }
                }
                $(
                    let $field: ::core::option::Option<$type> = cx.settle(
                        $field,
                        node,
                        $crate::settings!(@key $field $($key)?),
                        $crate::settings!(@default $($default)?),
                    );
                )*
                $(let $beside = <$beside_type as $crate::decode::Settings>::decode_keys(node, false, cx);)?
                let value = Self { $($field: $field?,)* $($beside: $beside?,)? };
                $($check(&value, node, cx);)?
                ::core::option::Option::Some(value)
            }

            fn describe(object: &mut $crate::decode::Object, s: &mut $crate::decode::SchemaBuilder<'_>) {
                $(<$beside_type as $crate::decode::Settings>::describe(object, s);)?
                $(
                    object.field::<$type>(
                        s,
                        $crate::settings!(@key $field $($key)?),
                        &[$($field_doc),*],
                        $crate::settings!(@default $($default)?),
                    );
                )*
                $(object.exclusive(&[$($exclusive),*]);)?
                $(object.needs_one(&[$($needed),*]);)?
            }
        }
    };

    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:path),* $(,)?)])*
        $vis:vis enum $name:ident {
            $(
                $(#[doc = $variant_doc:literal])*
                $variant:ident $(($type:ty))? = $word:literal
            ),* $(,)?
        }
        $(not_available { $($missing:literal),* $(,)? })?
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])*
        $vis enum $name {
            $($(#[doc = $variant_doc])* $variant $(($type))?,)*
        }

        impl $crate::decode::Setting for $name {
            fn decode(
                node: &$crate::tree::Node,
                cx: &mut $crate::decode::Decoder<'_>,
            ) -> ::core::option::Option<Self> {
                $($crate::settings!(@choice node cx $name $variant $(($type))? $word);)*
                const FORMS: &[(&str, bool)] = &[$(($word, $crate::settings!(@keyed $($type)?))),*];
                let words: ::std::vec::Vec<&str> =
                    FORMS.iter().filter(|(_, keyed)| !keyed).map(|(word, _)| *word).collect();
                let keyed: ::std::vec::Vec<&str> =
                    FORMS.iter().filter(|(_, keyed)| *keyed).map(|(word, _)| *word).collect();
                cx.unknown_choice(node, &words, &keyed, &[$($($missing),*)?]);
                ::core::option::Option::None
            }

            fn schema(s: &mut $crate::decode::SchemaBuilder<'_>) -> $crate::decode::JsonValue {
                let choices = ::std::vec![$((
                    $word,
                    $crate::settings!(@payload s $($type)?),
                    &[$($variant_doc),*] as &[&str],
                )),*];
                s.choices(&[$($doc),*], choices)
            }
        }
    };

    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
    (@default $default:literal) => { ::core::option::Option::Some($default) };
    (@default) => { ::core::option::Option::None };
    (@keyed $type:ty) => { true };
    (@keyed) => { false };
    (@payload $s:ident $type:ty) => {
        ::core::option::Option::Some(<$type as $crate::decode::Setting>::schema($s))
    };
    (@payload $s:ident) => { ::core::option::Option::None };
    (@choice $node:ident $cx:ident $name:ident $variant:ident ($type:ty) $word:literal) => {
        if let ::core::option::Option::Some([entry]) = $node.as_map()
            && entry.key == $word
        {
            let value: ::core::option::Option<$type> =
                $cx.key($word, |cx| $crate::decode::Setting::decode(&entry.value, cx));
            return value.map($name::$variant);
        }
    };
    (@choice $node:ident $cx:ident $name:ident $variant:ident $word:literal) => {
        if $node.as_str() == ::core::option::Option::Some($word) {
            return ::core::option::Option::Some($name::$variant);
        }
    };
}
