# Generates the client into gen/, and brings the service config along, which Go embeds from this folder alone. The contract names
# no Go package, so each file is given one here. PROTOC may be another protoc: python -m grpc_tools.protoc is one.
set -eu
contract=../../proto package=example.com/remind/gen/heedwell/v1
mkdir -p gen
cp ../service_config.json .
set --
for file in "$contract"/heedwell/v1/*.proto; do
  file=${file#"$contract"/}
  set -- "$@" "--go_opt=M$file=$package" "--go-grpc_opt=M$file=$package" "$file"
done
${PROTOC:-protoc} --proto_path="$contract" --go_out=. --go_opt=module=example.com/remind \
  --go-grpc_out=. --go-grpc_opt=module=example.com/remind "$@"
