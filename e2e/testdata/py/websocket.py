"""Eclipse Paho over WebSocket: websocket.py URL VERSION CAFILE publishes events of many sizes with each QoS and waits for them."""
import hashlib
import queue
import sys
import urllib.parse

import paho.mqtt.client as mqtt

url, version, ca = urllib.parse.urlparse(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sizes = [0, 1, 100, 125, 126, 127, 1000, 65535, 65536, 300000]
got = queue.Queue()
ready = queue.Queue()

c = mqtt.Client(client_id="paho-%d" % version, transport="websockets", protocol=version)
c.ws_set_options(path=url.path)
if url.scheme == "wss":
    c.tls_set(ca)
c.on_message = lambda _c, _u, m: got.put((m.topic, hashlib.sha256(m.payload).hexdigest()))
c.on_subscribe = lambda *a: ready.put(1)
c.connect(url.hostname, url.port, 30)
c.loop_start()
c.subscribe("paho/#", 2)
ready.get(timeout=20)
want = []
for qos in (0, 1, 2):
    for n in sizes:
        payload = bytes((i * 7 + n) % 256 for i in range(n))
        topic = "paho/%d/%d" % (qos, n)
        want.append((topic, hashlib.sha256(payload).hexdigest()))
        c.publish(topic, payload, qos).wait_for_publish()
seen = [got.get(timeout=20) for _ in want]
c.disconnect()
c.loop_stop()
assert sorted(seen) == sorted(want), (len(seen), len(want))
print("all came back")
