from pend_storage.flags._chained import ChainedFlag as ChainedFlag
from pend_storage.flags._chained import FlagSettings as FlagSettings
from pend_storage.flags._chained import OpenFeaturePlace as OpenFeaturePlace
from pend_storage.flags._chained import RedisPlace as RedisPlace
from pend_storage.flags._chained import flag_source as flag_source
from pend_storage.flags._fixed import EnvironmentFlag as EnvironmentFlag
from pend_storage.flags._fixed import FixedFlag as FixedFlag
from pend_storage.flags._pace import held_switch as held_switch
from pend_storage.flags._watcher import FlagWatcher as FlagWatcher
from pend_storage.flags._watcher import OnChange as OnChange
from pend_storage.flags.auto import AutoSwitch as AutoSwitch
from pend_storage.flags.auto import Switchable as Switchable
from pend_storage.flags.file import FileFlag as FileFlag
from pend_storage.flags.memory import FlagMemory as FlagMemory
from pend_storage.flags.memory import VersionedFlag as VersionedFlag
from pend_storage.flags.openfeature import OpenFeatureFlag as OpenFeatureFlag
from pend_storage.flags.openfeature import PendProvider as PendProvider
from pend_storage.flags.redis import RedisFlag as RedisFlag
from pend_storage.flags.source import DesiredPhase as DesiredPhase
from pend_storage.flags.source import FlagSource as FlagSource
from pend_storage.flags.source import ForgedFlag as ForgedFlag
from pend_storage.flags.source import PairValues as PairValues
from pend_storage.flags.source import UnsignedFlag as UnsignedFlag

# Former names.
FirstSet = ChainedFlag
Wanted = DesiredPhase
