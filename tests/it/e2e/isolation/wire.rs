//! Any call of the contract, written and read as JSON by way of its descriptor.

use heedwell::grpc::proto::DESCRIPTOR;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tonic::{Request, Status, client::Grpc, service::interceptor::InterceptedService, transport::Channel};

use crate::{e2e::access::Raw, support::app::Bearer};

/// The contract.
pub(in crate::e2e) struct Wire(DescriptorPool);

/// The first answer of a call.
pub(in crate::e2e) struct Answer {
    /// As it came.
    pub(in crate::e2e) bytes: Vec<u8>,
    pub(in crate::e2e) json: Value,
}

impl Wire {
    pub(in crate::e2e) fn new() -> Self {
        Self(DescriptorPool::decode(DESCRIPTOR).unwrap())
    }

    /// Every call, as in `NotifyService/GetNotification`.
    pub(super) fn calls(&self) -> Vec<String> {
        let ours = self.0.services().filter(|service| service.package_name() == "heedwell.v1");
        let calls = ours.flat_map(|service| {
            service.methods().map(|method| format!("{}/{}", service.name(), method.name())).collect::<Vec<_>>()
        });
        calls.collect()
    }

    fn method(&self, call: &str) -> MethodDescriptor {
        let (service, method) = call.split_once('/').unwrap();
        let service = self.0.get_service_by_name(&format!("heedwell.v1.{service}")).unwrap();
        service.methods().find(|known| known.name() == method).unwrap()
    }

    pub(super) fn request(&self, call: &str) -> MessageDescriptor {
        self.method(call).input()
    }

    pub(super) fn encode(&self, call: &str, request: &Value) -> Vec<u8> {
        let message = DynamicMessage::deserialize(self.request(call), request);
        message.unwrap_or_else(|error| panic!("{call} {request}: {error}")).encode_to_vec()
    }

    /// Makes a call and takes its first answer. On the wire a call with one answer is a stream of one.
    pub(in crate::e2e) async fn call(
        &self,
        channel: Channel,
        token: &str,
        call: &str,
        request: &Value,
    ) -> Result<Answer, Status> {
        let bytes = self.encode(call, request);
        let path = format!("/heedwell.v1.{call}").parse().unwrap();
        let mut grpc = Grpc::new(InterceptedService::new(channel, Bearer::new(token)));
        grpc.ready().await.unwrap();
        let mut answers = grpc.server_streaming(Request::new(bytes), path, Raw).await?.into_inner();
        let bytes = answers.message().await?.expect("an answer");
        let message = DynamicMessage::decode(self.method(call).output(), bytes.as_slice()).unwrap();
        Ok(Answer { json: serde_json::to_value(&message).unwrap(), bytes })
    }
}

/// A field of text, by the name of its message.
pub(super) type Field = (String, String);

/// Every field of text that a message can hold, however deep.
pub(super) fn texts(message: &MessageDescriptor) -> Vec<Field> {
    let (mut found, mut seen, mut left) = (Vec::new(), Vec::new(), vec![message.clone()]);
    while let Some(message) = left.pop() {
        if seen.contains(&message) || message.package_name() != "heedwell.v1" && !message.is_map_entry() {
            continue;
        }
        for field in message.fields() {
            match field.kind() {
                Kind::String | Kind::Bytes => found.push(name(&message, field.name())),
                Kind::Message(below) => left.push(below),
                _ => {}
            }
        }
        seen.push(message);
    }
    found
}

fn name(message: &MessageDescriptor, field: &str) -> Field {
    let message = message.full_name().trim_start_matches("heedwell.v1.");
    (message.to_owned(), field.to_owned())
}

/// The fields of a request that hold something for which a name stands (`$patient`), each with where it is.
pub(super) fn places(message: &MessageDescriptor, request: &Value) -> Vec<(Field, String, String)> {
    let mut found = Vec::new();
    let Value::Object(fields) = request else { return found };
    for (field, value) in fields {
        let known =
            message.get_field_by_name(field).unwrap_or_else(|| panic!("{} has no {field}", message.full_name()));
        let values: Vec<(String, &Value)> = match value {
            Value::Array(values) => {
                values.iter().enumerate().map(|(place, value)| (format!("/{field}/{place}"), value)).collect()
            }
            value => vec![(format!("/{field}"), value)],
        };
        for (path, value) in values {
            match (known.kind(), value) {
                (Kind::String, Value::String(text)) if text.starts_with('$') => {
                    found.push((name(message, field), path, text.clone()));
                }
                (Kind::Message(below), value) if below.package_name() == "heedwell.v1" => {
                    let below = places(&below, value).into_iter();
                    found.extend(below.map(|(field, deeper, text)| (field, format!("{path}{deeper}"), text)));
                }
                _ => {}
            }
        }
    }
    found
}
