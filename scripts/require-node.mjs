// Scripts run on the Node of the root devDependency `node`. Where its install failed, pnpm only warns and goes on with
// the machine's Node; stop there with a message instead of failing somewhere inside the code. Runs on any Node, so it is
// neither TypeScript nor does it import anything.
const NEEDED = 24

const major = Number(process.versions.node.split('.')[0])
if (major < NEEDED) {
  console.error(
    `Posthaste's scripts run on Node ${NEEDED}, but this is ${process.version} (${process.execPath}).\n` +
      `The development dependency "node" brings Node ${NEEDED}; its installation seems to have failed. ` +
      'Run `npx -y pnpm@12.21.0 install --force`, and read what it says about node.',
  )
  process.exit(1)
}
