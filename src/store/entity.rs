//! One entity per table. They are private to the store: rows leave it only as types of the domain.

#![expect(unreachable_pub, reason = "the derives of the ORM want public models")]

pub(super) mod attachment;
pub(super) mod attachment_part;
pub(super) mod attempt;
pub(super) mod audit;
pub(super) mod audit_head;
pub(super) mod broadcast;
pub(super) mod broadcast_address;
pub(super) mod broadcast_text;
pub(super) mod callback_inbox;
pub(super) mod channel_health;
pub(super) mod consent_head;
pub(super) mod consent_ledger;
pub(super) mod content;
pub(super) mod conversation;
pub(super) mod conversation_message;
pub(super) mod data_key;
pub(super) mod delivery;
pub(super) mod delivery_count;
pub(super) mod delivery_count_head;
pub(super) mod delivery_event;
pub(super) mod erasure;
pub(super) mod feed;
pub(super) mod feed_head;
pub(super) mod idem;
pub(super) mod inbound_message;
pub(super) mod inbox_item;
pub(super) mod installation;
pub(super) mod instance;
pub(super) mod lease;
pub(super) mod link;
pub(super) mod notification;
pub(super) mod patient;
pub(super) mod patient_tag;
pub(super) mod practice;
pub(super) mod practice_settings;
pub(super) mod push_device;
pub(super) mod recipient_gate;
pub(super) mod schema_floor;
pub(super) mod subject_key;
pub(super) mod template;
pub(super) mod template_version;
