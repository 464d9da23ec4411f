// Package words translates between the values of the API's enums and the words that
// people read and type: DAEMON_STATE_GAVE_UP is gave-up. The words are derived from the
// values' names, so there is no second list of them.
package words

import (
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Of returns the word for an enum's value: its name without the enum's, in lower case
// and with hyphens. It is empty for the value 0, which says that there is none, and a
// decimal number for a value that a later version of the API has.
func Of(value protoreflect.Enum) string {
	d := value.Descriptor().Values().ByNumber(value.Number())
	switch {
	case value.Number() == 0:
		return ""
	case d == nil:
		return strconv.Itoa(int(value.Number()))
	}
	return word(value.Descriptor(), d)
}

// Parse returns the value whose word this is, and the value 0 and false if there is
// none. The empty word is none.
func Parse[E interface {
	~int32
	protoreflect.Enum
}](text string) (E, bool) {
	var none E
	values := none.Descriptor().Values()
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 && word(none.Descriptor(), v) == text {
			return E(v.Number()), true
		}
	}
	return none, false
}

// All returns the words of an enum's values, in the order of their numbers in the
// .proto file and without the value 0.
func All(of protoreflect.EnumDescriptor) []string {
	var all []string
	for i := range of.Values().Len() {
		if v := of.Values().Get(i); v.Number() != 0 {
			all = append(all, word(of, v))
		}
	}
	return all
}

func word(of protoreflect.EnumDescriptor, v protoreflect.EnumValueDescriptor) string {
	name := strings.TrimPrefix(string(v.Name()), Prefix(of))
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// Prefix returns what the names of an enum's values begin with: DAEMON_STATE_ for
// DaemonState. The names of the values of all enums of a package have to be different.
func Prefix(of protoreflect.EnumDescriptor) string {
	var b strings.Builder
	for i, r := range string(of.Name()) {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String() + "_"
}
