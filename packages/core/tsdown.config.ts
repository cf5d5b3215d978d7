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
  // Of an import whose types nobody sees, bundling leaves `import "drizzle-orm"`, and a host with `skipLibCheck: false` would be
  // told of everything that is wrong in the declarations of all of its dialects.
  plugins: [
    {
      name: 'declarations-import-only-what-they-name',
      renderChunk: (code, { fileName }) =>
        fileName.endsWith('.d.ts') ? code.replace(/^import "[^"]+";\n/gm, '') : null,
    },
  ],
})
