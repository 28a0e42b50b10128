def environments(): return {}, []
