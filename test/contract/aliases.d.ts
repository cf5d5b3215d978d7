/** Older majors by their npm aliases, typed as the newer ones, of which the suites use the common part. */
declare module 'express4' {
  export { default } from 'express'
}
declare module 'koa2' {
  export { default } from 'koa'
}
