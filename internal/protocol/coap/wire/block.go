package wire

// Block is the value of a Block1 or Block2 option (RFC 7959, section 2.2).
type Block struct {
	Num  uint32 // 0 to MaxBlockNum
	More bool   // further blocks follow
	SZX  uint8  // the size is 16 << SZX; 7 is BERT (RFC 8323, section 6), where it is a multiple of 1,024
}

// MaxBlockNum is the highest number of a block: 20 bits.
const MaxBlockNum = 1<<20 - 1

// BERT is the SZX of blocks that are longer than 1,024 bytes, on streams only (RFC 8323, section 6).
const BERT = 7

// ParseBlock reads the value of a block option, which the registry holds to 3 bytes.
func ParseBlock(value []byte) Block {
	u := Uint(value)
	return Block{Num: u >> 4, More: u&8 != 0, SZX: uint8(u & 7)}
}

// Block is the block option n of a message.
func (o Options) Block(n Number) (b Block, ok bool) {
	v, ok := o.Usable(n)
	return ParseBlock(v), ok
}

// Size is the size of the block in bytes; with BERT the unit in which Num counts.
func (b Block) Size() int { return 16 << min(b.SZX, 6) }

// Offset is where the block begins in the body, in bytes.
func (b Block) Offset() int { return int(b.Num) * b.Size() }

// Value is the value of the option, for AppendUint.
func (b Block) Value() uint32 {
	v := b.Num<<4 | uint32(b.SZX&7)
	if b.More {
		v |= 8
	}
	return v
}
