package config

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// Rendered writes the configuration as it is in effect: defaults and environment values filled in, units in their
// normal form, secrets as <secret NAME>. Where it names no secret it can be read again, and means the same.
func (s *Snapshot) Rendered() []byte { return s.render(false) }

// Redacted is Rendered without what the environment of this machine says: such values stay "${env.NAME}". It can be
// shown to anybody who may see the files.
func (s *Snapshot) Redacted() []byte { return s.render(true) }

func (s *Snapshot) render(hideEnv bool) []byte {
	root := mapNode()
	put(root, "windrose", scalarNode(Version, true))
	for _, sec := range s.sections {
		es := s.entries[sec.Name]
		if len(es) == 0 {
			continue
		}
		switch sec.Shape {
		case Single:
			put(root, sec.Name, es[0].tree.yaml(hideEnv))
		case Map, OrderedMap:
			m := mapNode()
			for _, e := range es {
				put(m, e.Name, e.tree.yaml(hideEnv))
			}
			put(root, sec.Name, m)
		case List:
			list := &yaml.Node{Kind: yaml.SequenceNode}
			for _, e := range es {
				list.Content = append(list.Content, e.tree.yaml(hideEnv))
			}
			put(root, sec.Name, list)
		}
	}
	return encode(root)
}

// encode writes a node with an indent of two.
func encode(n *yaml.Node) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return []byte("# the configuration cannot be written as YAML: " + err.Error() + "\n")
	}
	_ = enc.Close() // flushes into memory
	return b.Bytes()
}

func mapNode() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func put(m *yaml.Node, key string, v *yaml.Node) {
	m.Content = append(m.Content, scalarNode(key, true), v)
}

// scalarNode writes text in quotes where YAML 1.1 or 1.2 would read anything else.
func scalarNode(s string, isText bool) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if isText {
		n.Tag = "!!str"
		if coreKind(s) != kindText {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	return n
}

// yaml is the tree as YAML; short lists of scalars stay on one line.
func (t *tree) yaml(hideEnv bool) *yaml.Node {
	switch {
	case t == nil:
		return scalarNode("null", false)
	case t.isMap:
		m := mapNode()
		for i, k := range t.keys {
			put(m, k, t.kids[i].yaml(hideEnv))
		}
		return m
	case t.list:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, k := range t.kids {
			if k.isMap || k.list {
				n.Style = 0
			}
			n.Content = append(n.Content, k.yaml(hideEnv))
		}
		return n
	}
	if hideEnv && t.env != "" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "${env." + t.env + "}", Style: yaml.DoubleQuotedStyle}
	}
	return scalarNode(t.text, t.isText)
}
