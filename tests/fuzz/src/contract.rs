//! The contract as it describes itself: which calls there are, and which fields their messages have.

use std::{collections::BTreeMap, sync::OnceLock};

use heedwell::grpc::proto;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// A call.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) path: String,
    pub(crate) input: String,
    pub(crate) output: String,
    /// It goes on until somebody ends it.
    pub(crate) watch: bool,
}

#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) methods: Vec<Method>,
    /// By their full names, which begin with a dot.
    pub(crate) messages: BTreeMap<String, DescriptorProto>,
}

/// What this server serves.
pub(crate) fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let set = FileDescriptorSet::decode(proto::DESCRIPTOR).unwrap();
        let mut contract = Contract { methods: Vec::new(), messages: BTreeMap::new() };
        for file in &set.file {
            for message in &file.message_type {
                add(&mut contract.messages, &format!(".{}", file.package()), message);
            }
            for service in file.service.iter().filter(|_| file.package() == "heedwell.v1") {
                contract.methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    input: method.input_type().to_owned(),
                    output: method.output_type().to_owned(),
                    watch: method.server_streaming(),
                }));
            }
        }
        // An input names a call by its place, and shall name the same one when another is added.
        contract.methods.sort_by(|one, other| one.path.cmp(&other.path));
        contract
    })
}

impl Contract {
    pub(crate) fn method(&self, name: &str) -> &Method {
        self.methods.iter().find(|method| method.path.ends_with(&format!("/{name}"))).unwrap()
    }
}

fn add(messages: &mut BTreeMap<String, DescriptorProto>, within: &str, message: &DescriptorProto) {
    let name = format!("{within}.{}", message.name());
    for nested in &message.nested_type {
        add(messages, &name, nested);
    }
    messages.insert(name, message.clone());
}
