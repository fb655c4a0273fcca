//! What `validate` holds beyond its page.
