package expr

import "fmt"

// Kind is the type of a value, as far as the language tells types apart.
type Kind uint8

// The kinds. Any stands for a type that is known only when the value is there.
const (
	Any Kind = iota
	Null
	Bool
	Int
	Uint
	Double
	String
	Bytes
	Time
	Duration
	List
	Map
)

var kindWords = [...]string{"dyn", "null", "bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration", "list", "map"}

// String is the kind's word in CEL.
func (k Kind) String() string {
	if int(k) < len(kindWords) {
		return kindWords[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}
