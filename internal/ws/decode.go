package ws

import (
	"encoding/binary"
)

// Opcodes (RFC 6455, 5.2).
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

const (
	finBit     = 0x80
	rsvBits    = 0x70
	maskBit    = 0x80
	controlBit = 0x08
	maxHeader  = 14
	maxControl = 125 // 5.5
)

// decoder takes frames apart: pure, no I/O. What it holds does not grow with what is announced or sent. Owned by its
// connection.
type decoder struct {
	maxFrame uint64 // payload of one frame; 0: no limit
	left     uint64 // payload of the frame that is still to come
	key      uint32 // as it goes on
	head     [maxHeader]byte
	headLen  uint8 // bytes of a header that is not complete
	first    byte  // first byte of the frame's header
	client   bool  // this is the client's end: what comes is not masked
	text     bool  // text messages are taken
	inFrame  bool
	inMsg    bool // a message has frames to come
	isText   bool // and it is text
	over     bool // an error, or the close frame of the peer
	check    textCheck
	ctl      []byte // payload of a control frame so far
}

// feed takes b apart in place. data is what of it is payload of messages, one after the other, in b; of the pings the
// payloads are handed to pong, unmasked. After an error everything is ignored.
func (d *decoder) feed(b []byte, pong func(payload []byte)) (data []byte, err *Error) {
	start, end := 0, 0
	for i := 0; i < len(b) && !d.over; {
		if !d.inFrame {
			n, err := d.header(b[i:])
			if err != nil {
				d.over = true
				return b[start:end], err
			}
			i += n
			if !d.inFrame {
				break // the header is not complete
			}
		}
		p := b[i:]
		if uint64(len(p)) > d.left {
			p = p[:d.left]
		}
		if d.first&controlBit == 0 {
			if end == start {
				start, end = i, i
			}
			d.unmask(b[end:end+len(p)], p)
			if d.isText && !d.check.feed(b[end:end+len(p)]) {
				d.over = true
				return b[start:end], &Error{Code: InvalidText, Text: "text is not UTF-8"}
			}
			end += len(p)
		} else if len(p) > 0 {
			d.ctl = append(d.ctl, p...)
		}
		i += len(p)
		if d.left -= uint64(len(p)); d.left > 0 {
			break
		}
		if err := d.frameEnd(pong); err != nil {
			d.over = true
			return b[start:end], err
		}
	}
	return b[start:end], nil
}

func (d *decoder) unmask(dst, src []byte) {
	switch {
	case !d.client:
		d.key = mask(dst, src, d.key)
	case len(src) > 0 && &dst[0] != &src[0]:
		copy(dst, src)
	}
}

// header reads what b has of a header, and says how many bytes that was.
func (d *decoder) header(b []byte) (n int, err *Error) {
	h := b
	if d.headLen > 0 {
		n = copy(d.head[d.headLen:], b)
		h = d.head[:int(d.headLen)+n]
	}
	if err := d.checkHead(h); err != nil {
		return 0, err
	}
	size := 2
	if len(h) >= 2 {
		size = headerSize(h[1])
	}
	if len(h) < size || len(h) < 2 {
		d.headLen = uint8(copy(d.head[:], h))
		return len(b), nil
	}
	n = size - int(d.headLen)
	d.headLen = 0
	return n, d.begin(h[:size])
}

// headerSize is the size of a header by its second byte (5.2).
func headerSize(second byte) int {
	n := 2
	switch second &^ maskBit {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if second&maskBit != 0 {
		n += 4
	}
	return n
}

// checkHead says what is wrong with the first two bytes, or the first, as soon as they are there.
func (d *decoder) checkHead(h []byte) *Error {
	op := h[0] & 15
	switch {
	case h[0]&rsvBits != 0:
		return violation("reserved bits are set") // 5.2: no extension was negotiated
	case op > opBinary && op < opClose || op > opPong:
		return violation("unknown opcode")
	case op&controlBit != 0 && h[0]&finBit == 0:
		return violation("control frame in fragments") // 5.5
	case op == opContinuation && !d.inMsg:
		return violation("continuation without a message") // 5.4
	case op&controlBit == 0 && op != opContinuation && d.inMsg:
		return violation("new message within a message") // 5.4
	case op == opText && !d.text:
		return &Error{Code: Unacceptable, Text: "text message where bytes are spoken"}
	case len(h) < 2:
		return nil
	case h[1]&maskBit == 0 && !d.client:
		return violation("frame of a client without a mask") // 5.1
	case h[1]&maskBit != 0 && d.client:
		return violation("frame of a server with a mask") // 5.1
	case op&controlBit != 0 && h[1]&^maskBit > maxControl:
		return violation("control frame over 125 bytes") // 5.5
	}
	return nil
}

// begin begins a frame whose header is complete and whose first bytes are checked.
func (d *decoder) begin(h []byte) *Error {
	n := uint64(h[1] &^ maskBit)
	switch n {
	case 126:
		if n = uint64(binary.BigEndian.Uint16(h[2:])); n < 126 {
			return violation("length is not in its shortest form") // 5.2
		}
	case 127:
		if n = binary.BigEndian.Uint64(h[2:]); n < 1<<16 || n > 1<<63-1 {
			return violation("length is not in its shortest form, or over 2^63") // 5.2
		}
	}
	if d.maxFrame > 0 && n > d.maxFrame {
		return &Error{Code: TooBig, Text: "frame is too big"}
	}
	if !d.client {
		d.key = binary.LittleEndian.Uint32(h[len(h)-4:])
	}
	d.first, d.left, d.inFrame = h[0], n, true
	if op := h[0] & 15; op == opText || op == opBinary {
		d.isText = op == opText
	}
	return nil
}

// frameEnd is called when the payload of a frame is complete.
func (d *decoder) frameEnd(pong func([]byte)) *Error {
	d.inFrame = false
	op := d.first & 15
	if op&controlBit == 0 {
		if d.inMsg = d.first&finBit == 0; !d.inMsg && d.isText && !d.check.whole() {
			return &Error{Code: InvalidText, Text: "text ends within a character"}
		}
		return nil
	}
	p := d.ctl
	d.ctl = d.ctl[:0]
	if !d.client {
		mask(p, p, d.key)
	}
	switch op {
	case opPing:
		pong(p)
	case opClose:
		return parseClose(p)
	}
	return nil
}
