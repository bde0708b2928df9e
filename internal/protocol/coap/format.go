package coap

import "strings"

// formats are the content formats that have a content type here (RFC 7252, section 12.3, and the registry it founded).
var formats = map[uint16]string{
	0:     "text/plain; charset=utf-8",
	16:    "application/cose; cose-type=\"cose-encrypt0\"",
	21:    "image/gif",
	22:    "image/jpeg",
	23:    "image/png",
	40:    "application/link-format",
	41:    "application/xml",
	42:    "application/octet-stream",
	47:    "application/exi",
	50:    "application/json",
	51:    "application/json-patch+json",
	52:    "application/merge-patch+json",
	60:    "application/cbor",
	61:    "application/cwt",
	62:    "application/multipart-core",
	63:    "application/cbor-seq",
	64:    "application/link-format+cbor",
	101:   "application/pkix-cert",
	110:   "application/senml+json",
	111:   "application/sensml+json",
	112:   "application/senml+cbor",
	113:   "application/sensml+cbor",
	114:   "application/senml-exi",
	115:   "application/sensml-exi",
	11050: "application/json; deflate",
	11542: "application/vnd.oma.lwm2m+tlv",
	11543: "application/vnd.oma.lwm2m+json",
	11544: "application/vnd.oma.lwm2m+cbor",
}

// Formats that the server itself speaks.
const (
	formatText = 0
	formatLink = 40
)

// formatOf finds the content format of a content type. Parameters other than those in the table are not looked at, so that
// text/plain in any charset that UTF-8 covers is 0.
func formatOf(contentType []byte) (f uint16, ok bool) {
	for n, t := range formats {
		if t == string(contentType) {
			return n, true
		}
	}
	want := normal(string(contentType))
	if want == "text/plain; charset=us-ascii" || want == "text/plain" {
		return formatText, true
	}
	for n, t := range formats {
		if t == want {
			return n, true
		}
	}
	return 0, false
}

// normal is a content type in the form of the table.
func normal(t string) string {
	t = strings.ToLower(strings.TrimSpace(t))
	head, param, more := strings.Cut(t, ";")
	if !more {
		return head
	}
	return strings.TrimSpace(head) + "; " + strings.TrimSpace(param)
}
