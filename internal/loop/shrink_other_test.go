//go:build !linux

package loop

func shrinkFD(uintptr) {}
