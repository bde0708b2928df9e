// Package e2e holds the black box tests: scripts that start the real binary on free ports and talk to it with real
// clients (Debian's mosquitto_pub and mosquitto_sub, paho for Python), real brokers and a webhook that answers as told.
// It holds no code of the product.
package e2e
