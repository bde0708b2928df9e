// MQTT.js over WebSocket: websocket.js URL VERSION CAFILE publishes events of many sizes with each QoS and waits for them.
const fs = require('fs')
const mqtt = require('mqtt')

const [url, version, ca] = process.argv.slice(2)
const options = { protocolVersion: Number(version), clientId: 'js-' + version, reconnectPeriod: 0, ca: fs.readFileSync(ca) }
if (version === '3') options.protocolId = 'MQIsdp'
const sizes = [0, 1, 100, 125, 126, 127, 1000, 65535, 65536, 300000]
const want = new Map()
const fail = (why) => { console.log('failed: ' + why); process.exit(1) }
const late = setTimeout(() => fail(want.size + ' did not come'), 20000)

const client = mqtt.connect(url, options)
client.on('error', fail)
client.on('connect', () => client.subscribe('js/#', { qos: 2 }, (err) => {
  if (err) fail(err)
  for (const qos of [0, 1, 2]) {
    for (const n of sizes) {
      const payload = Buffer.alloc(n, n % 251)
      want.set(`js/${qos}/${n}`, payload)
      client.publish(`js/${qos}/${n}`, payload, { qos }, (err) => { if (err) fail(err) })
    }
  }
}))
client.on('message', (topic, payload) => {
  const sent = want.get(topic)
  if (!sent || !sent.equals(payload)) fail('not what was sent: ' + topic)
  want.delete(topic)
  if (want.size === 0) {
    clearTimeout(late)
    client.end(false, {}, () => console.log('all came back'))
  }
})
