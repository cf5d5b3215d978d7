import { defineConfig } from 'tsdown'

export default defineConfig({
  // One output per entry of package.json's `exports`, at the path named there.
  entry: {
    index: 'src/index.ts',
    receiver: 'src/receiver.ts',
    inbox: 'src/inbox.ts',
    'node/index': 'src/node/index.ts',
    'testing/index': 'src/testing/index.ts',
  },
  format: 'esm',
  platform: 'node',
  target: 'node22.18',
  outExtensions: () => ({ js: '.js', dts: '.d.ts' }),
  tsconfig: 'tsconfig.build.json',
  dts: true,
  sourcemap: false,
  clean: true,
})
