#!/usr/bin/env bash
# Checks the programs that the tests talk to. As root on a Debian machine it installs what is missing; elsewhere it
# says what is missing, and fails when WINDROSE_REQUIRE_PEERS is set.
set -u
export PATH="$PATH:/usr/sbin:/sbin"

missing() {
	for pair in mosquitto:mosquitto mosquitto_pub:mosquitto-clients mosquitto_sub:mosquitto-clients coap-client-openssl:libcoap3-bin ip:iproute2 nft:nftables promtool:prometheus; do
		command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair##*:}"
	done | sort -u
	{ [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null; } || echo python3-paho-mqtt
}

want=$(missing | tr '\n' ' ')
if [ -n "${want// /}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing: $want"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >/dev/null
	# shellcheck disable=SC2086 # the list is meant to be split
	apt-get install -y -qq --no-install-recommends $want >/dev/null
	want=$(missing | tr '\n' ' ')
fi
# MQTT.js, where there is Node and its registry can be reached; its tests are skipped without it.
if [ "$(id -u)" = 0 ] && command -v npm >/dev/null 2>&1 && ! NODE_PATH=${NODE_PATH:-$(npm root -g 2>/dev/null)} node -e 'require("mqtt")' 2>/dev/null; then
	echo "installing: mqtt (npm)"
	timeout 120 npm install -g --silent --no-audit --no-fund mqtt@5.16.0 >/dev/null 2>&1 || echo "peers: no MQTT.js; THE TESTS THAT NEED IT WILL BE SKIPPED" >&2
fi
if [ -z "${want// /}" ]; then
	echo "peers: all there"
elif [ -n "${WINDROSE_REQUIRE_PEERS:-}" ]; then
	echo "peers: MISSING (Debian packages): $want" >&2
	exit 1
else
	echo "peers: MISSING (Debian packages): $want; THE TESTS THAT NEED THEM WILL BE SKIPPED" >&2
fi
