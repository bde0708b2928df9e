// Package config turns YAML files into the spec structs of the modules. It knows nothing about modules: each field is
// declared once, by struct tags in the spec struct of the module that owns it, and a Schema lists which spec belongs
// to which section. The loader, the reference documentation, the JSON Schema and the example file all come from that
// declaration.
//
// # Struct tags
//
//	yaml:"name"       the key; "name,inline" or ",inline" on an embedded or nested struct lifts its fields up; "-" leaves out
//	doc:"..."         one sentence
//	default:"30s"     the value of a field that is not written, read by the field's own rules (lists and maps as YAML flow)
//	required:"true"   must be written and not be empty
//	enum:"a|b|c"      the allowed words, of the field or of each element
//	min:"1" max:"9"   numbers, durations, sizes, rates, ranges: bounds of the value, read by the field's own rules;
//	                  text: length in characters; lists and maps: number of entries
//	unit:"size"       see below
//	ref:"pools"       text, list of text or keys of a map that must name an entry of that collection; "a|b" allows either;
//	                  with enum its words are allowed too
//	single:"true"     a list that may also be written as one value
//	example:"..."     the value shown in the generated example
//
// Units: size (integers: 64KiB, 1MB, 4096), rate (float64 per second: 50/s, 10/m), byterate (float64 bytes per second:
// 256KiB/s), range (struct{Min, Max}: 20s..20m, 1..10), filter (MQTT filter with {captures}), topic (MQTT topic name),
// cidr, addr (host:port, :port, unix:/path), file (a relative path is taken from the directory of the file that names
// it), url (enum: allowed schemes), expr (an expression, kept as text), secret (written as { secret: NAME }). A
// time.Duration needs no unit.
//
// A type may have Validate() error (the error is placed at the field's node; see FieldError), UnmarshalText, or
// UnmarshalConfig(*Value) error for odd shapes.
//
// # YAML
//
// YAML 1.2 core types: yes, no, on and off are text. Anchors, aliases, merge keys and tags are refused. A value that
// is wholly "${env.NAME}" is replaced after parsing. A file has at most 4 MiB and 64 levels.
//
// # Secrets
//
// A secret's origin is named only in the secrets section ({file: path} or {env: NAME}); its value is read at load, and
// appears in no error, dump or document of this package.
//
// # History
//
// A History keeps what a node has run as it was written, by hash, and puts it back.
//
// # Concurrency
//
// A Schema is immutable once it is used and safe for concurrent use; each Load has a loader of its own; a Snapshot is
// immutable after Load and safe for concurrent use, as long as nobody writes to the specs it hands out. A History is safe
// for concurrent use, by several processes too.
package config
