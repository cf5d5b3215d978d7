import { expect, test } from 'vitest'
import { mountPathOf, pathOf } from './mount-path.ts'

test.each([
  ['/hooks/ep_1?x=/y', '/hooks', '/hooks'],
  ['/hooks', '/hooks/', '/hooks'],
  ['/hooksy', '/hooks', null],
  ['/a/b', '/a/b/c', null],
  ['/shops/x%20y/hooks/', '/shops/:shop/hooks', '/shops/x%20y/hooks'],
  ['/shops//hooks', '/shops/:shop/hooks', null],
  ['/', '', ''],
  ['/anything', '/', ''],
  ['http://elsewhere.example/hooks/x?y', '/hooks', '/hooks'],
  ['http://elsewhere.example', '/hooks', null],
])('of %j, mounted at %j, it is %j', (target, prefix, expected) => {
  expect(mountPathOf(target, prefix)).toBe(expected)
})

test('pathOf changes nothing', () => {
  expect(pathOf('/a/../b//%2e?c=d')).toBe('/a/../b//%2e')
})
