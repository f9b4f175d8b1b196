"""What people read, in Chinese first and in English: one catalogue, one function.

    t("safety.parent")                     → 上级已收妥
    t("age.minutes", "en", count=5)        → 5 minutes

A key is what a text is about, dotted. Values stand in braces and are the same in both languages. Error codes of
`protocol.errors` have a text each (`error.<code>`); the sentence that names what exactly is wrong comes with the error.
Tests check that both languages are complete and that every key used in the code exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LANGUAGES: Final = ("zh", "en")
VARIABLE: Final = "TONGBAN_LANG"

Pair = tuple[str, str]

TEXTS: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        # --- states of a case, as everybody sees them
        "state.received": ("已收件", "received"),
        "state.noticed": ("待补正", "waiting for materials"),
        "state.accepted": ("已受理", "accepted"),
        "state.handling": ("办理中", "being handled"),
        "state.suspended": ("暂停计时", "suspended"),
        "state.decided": ("已决定", "decided"),
        "state.finished": ("已办结", "finished"),
        "state.refused": ("不予受理", "not accepted"),
        "state.withdrawn": ("已撤回", "withdrawn"),
        "state.revoked": ("已撤销", "revoked"),
        # --- what an entry came to
        "effect.applied": ("有效", "applied"),
        "effect.void": ("无效力", "no effect"),
        "effect.late": ("迟到，未采用", "late, not chosen"),
        "effect.waiting": ("等待前序资料", "waiting for what comes before"),
        # --- outcomes
        "result.grant": ("准予", "granted"),
        "result.partial": ("部分准予", "granted in part"),
        "result.deny": ("不予批准", "denied"),
        "result.pass": ("通过", "passed"),
        "result.fail": ("未通过", "failed"),
        # --- steps, by command name
        "step.open": ("收件", "taken in"),
        "step.accept": ("受理", "accepted"),
        "step.refuse": ("不予受理", "refused"),
        "step.notice": ("一次性告知", "told what is missing"),
        "step.supplement": ("补交材料", "materials handed in"),
        "step.suspend": ("暂停", "suspended"),
        "step.resume": ("恢复", "resumed"),
        "step.extend": ("延期", "extended"),
        "step.dispatch": ("分派", "given to departments"),
        "step.task": ("部门意见", "department's result"),
        "step.decide": ("决定", "decided"),
        "step.finish": ("办结", "finished"),
        "step.revoke": ("撤销", "revoked"),
        "step.withdraw": ("申请撤回", "withdrawn"),
        "step.offer": ("移交", "offered"),
        "step.take": ("接收", "taken over"),
        "step.return": ("退回", "given back"),
        "step.reclaim": ("上级收回", "reclaimed"),
        "step.adopt": ("追认", "adopted"),
        "step.note": ("备注", "note"),
        "step.deliver": ("送达", "delivered"),
        "step.correct": ("更正", "corrected"),
        "step.time": ("时间认定", "time set by a hub"),
        "mark.offline": ("离线录入", "entered offline"),
        "mark.afterwards": ("补录", "recorded afterwards"),
        "mark.provisional": ("暂定", "provisional"),
        "mark.delivered": ("已送达", "delivered"),
        # --- safety levels: say the strongest true one
        "safety.here": ("已保存在本机", "saved on this machine"),
        "safety.parent": ("上级已收妥", "the parent has it"),
        "safety.second": ("上级和再上一级都已收妥", "a second machine above has it"),
        "safety.parent_until": ("{time} 以前录入的，{name}已收妥", "{name} has all that was entered before {time}"),
        "safety.pending": ("还有 {count} 条待上报，本机已保存", "{count} still to be sent, saved here"),
        # --- ages
        "age.never": ("从未", "never"),
        "age.now": ("刚刚", "just now"),
        "age.minutes": ("{count} 分钟前", "{count} minutes ago"),
        "age.hours": ("{count} 小时前", "{count} hours ago"),
        "age.days": ("{count} 天前", "{count} days ago"),
        "span.minutes": ("{count} 分钟", "{count} minutes"),
        "span.hours": ("{count} 小时", "{count} hours"),
        "span.days": ("{count} 天", "{count} days"),
        # --- the running node
        "run.ready": ("{name} 已启动：{url}", "{name} is running: {url}"),
        "run.stopping": ("正在停止，请稍候", "stopping, please wait"),
        "run.stopped": ("已停止，数据已保存", "stopped, everything is saved"),
        "link.up": ("已连接上级", "connected to the parent"),
        "link.down": ("上级连不上；照常受理，恢复后自动上报", "the parent is away; go on, it is sent later"),
        "link.heard": ("最近一次联系上级：{age}", "the parent was last heard {age}"),
        "clock.ahead": ("本机时钟比上级快 {span}，请核对两边时钟；照常受理", "this clock is {span} ahead of the parent's: set the wrong one; go on working"),
        "clock.behind": ("本机时钟比上级慢 {span}，请核对两边时钟；照常受理", "this clock is {span} behind the parent's: set the wrong one; go on working"),
        "rules.stale": ("事项和权限是 {age}的，可能已有变化；照常受理", "rules are as of {age} and may have changed; go on working"),
        "rules.unknown": ("有 {count} 条规则本程序不认识，请升级程序", "{count} rules are unknown to this program: update it"),
        "rules.waiting": (
            "有 {count} 条规则待生效：先听取下级留存的规则，等待其联系；照常受理",
            "{count} rules wait for their number: the children are heard first, in case they hold some that this root has lost; go on working",
        ),
        "backup.last": ("最近一次备份：{age}", "the last backup was made {age}"),
        # --- the disk
        "disk.free": ("磁盘可用 {free} GB，数据 {store} MB", "{free} GB free on the disk, {store} MB of data"),
        "disk.growth": ("每天增长 {grown} MB，约可用 {days} 天", "{grown} MB more a day, enough for about {days} days"),
        "disk.low": ("磁盘约 {days} 天后用完，请尽快腾出空间", "the disk lasts about {days} days: make room soon"),
        "disk.full": ("磁盘已用到保留空间，请立即腾出空间", "only the reserve of the disk is left: make room now"),
        # --- setting up
        "init.done": ("已建立网络 {network}，根节点 {node}", "network {network} is made, its root is {node}"),
        "init.recovery": (
            "恢复密钥只显示这一次，不存盘。请抄写两份，分开存放：",
            "This recovery key is shown once and kept on no disk. Write it down twice and keep the copies apart:",
        ),
        "invite.done": (
            "请在新机器上运行（{expires} 前有效）：",
            "Run this on the new machine (valid until {expires}):",
        ),
        "join.done": ("{node} 已加入，上级为 {parent}", "{node} has joined, its parent is {parent}"),
        "join.waiting": (
            "密钥已备好，上级暂时连不上；稍后再运行同一命令",
            "keys are ready, the parent is away; run this again",
        ),
        "sync.done": ("已上报 {acked} 条，已接收 {pulled} 条", "{acked} acknowledged, {pulled} received"),
        "case.done": ("办件 {number}：{step}，{safety}", "{number}: {step}, {safety}"),
        "carry.out": (
            "已写好 {file}：{entries} 条，交给 {to}；内容已加密，只有 {to} 能打开",
            "{file} is written: {entries} entries for {to}, sealed so that only {to} can open it",
        ),
        "carry.in": ("{sender} 于 {made_at} 写出的文件已收入：新增 {entries} 条，已有 {known} 条", "the file that {sender} wrote at {made_at} is taken in: {entries} new entries, {known} known already"),
        "carry.same": ("{sender} 于 {made_at} 写出的文件早已收入，没有任何改动", "the file that {sender} wrote at {made_at} was taken in before: nothing has changed"),
        "carry.rules": ("事项和权限更新 {count} 次", "{count} updates of the rules"),
        "carry.stated": ("已开出收据；请用 carry out --to {sender} 写出，带回给对方", "a receipt is stated: bring it back with carry out --to {sender}"),
        "carry.receipt": ("{node} 的收据：{at} 收妥", "receipt of {node}: received at {at}"),
        "carry.acked": ("收据已核验，又有 {count} 条确认上级收妥", "verified: the parent has {count} more entries"),
        "carry.forks": ("警报：{count} 处有两份签名记录，均已留存", "alarm: {count} rival histories, all kept"),
        "verify.good": ("核验 {entries} 条记录，没有问题", "{entries} entries checked, no problem"),
        "backup.done": (
            "已备份到 {file}（截至第 {size} 条，{at}）{keys}",
            "backed up to {file} (entries up to {size}, {at}){keys}",
        ),
        "backup.with_key": ("，含加密的私钥", ", with the private keys, sealed"),
        "backup.without_key": ("；不含私钥，请另行保管 keys/", "; without the private keys: keep keys/ elsewhere"),
        "restore.done": (
            "已恢复 {node} 到 {at} 的备份（{size} 条）。启动并同步后，上级和下级会把留存的记录还回来",
            "{node} is restored to the backup of {at} ({size} entries). Start it and sync: parent and children give back what they have",
        ),
        "restore.anew": (
            "{node}（{name}，网络 {network}）以原密钥和空数据重新开始。请执行 run：上级和下级会各自还回留存的记录。丢失的数据文件里没有发出去的记录，谁也没有，请按纸质底单补录",
            "{node} ({name}, network {network}) begins anew with its old key and an empty store. Start it with `run`: parent and children give back what they have. What had left the lost store for nobody is gone: take it in again from paper",
        ),
        "restore.anew_root": (
            "根节点 {node}（{name}，网络 {network}）以原密钥和空数据重新开始。请执行 run：第一个下级联系上并还回规则之前，本机不发布任何规则",
            "the root {node} ({name}, network {network}) begins anew with its old key and an empty store. Start it with `run`: it publishes no rule before a child has called and given the rules back",
        ),
        "vouch.done": (
            "已写出 {file}。带到 {node} 的机器上执行 restore --without-store FILE；文件不含秘密",
            "{file} is written. Bring it to the machine of {node} and give `restore --without-store FILE` there; it holds no secret",
        ),
        "restore.aside": ("原数据文件保留为 {file}", "the old store is kept as {file}"),
        "scrub.mended": ("修复 {count} 处", "{count} places mended"),
        "verify.bad": ("核验发现 {count} 个问题", "{count} problems found"),
        "status.withheld": (
            "警报：上级 {since} 起收妥的 {count} 条，再上一级一天以后仍未见到，请联系再上一级",
            "alarm: {count} entries that the parent has had since {since} are not further up after a day: call the hub above it",
        ),
        "status.lost": (
            "警报：本机数据曾从旧副本恢复，{count} 条本单位记录下级也没有留存，无法找回；编号见 --json 的 lost",
            "alarm: this store was put back from an old copy; {count} entries of this node are in no other machine's hands: see lost in --json",
        ),
        # --- two machines under one name, and evidence
        "clones.none": ("未发现共用本单位身份的机器", "no second machine is known under this node's name"),
        "clones.fenced": (
            "{by} 自 {since} 起发现两台机器共用本单位身份：收件、补材料、备注照常，其他环节暂停",
            "since {since} {by} sees two machines under this node's name: taking in, material and notes go on, other steps wait",
        ),
        "clones.choose": (
            "请在留用的机器上运行 tongban clones keep，在另一台上运行 tongban clones retire；两台的数据都不会丢",
            "give `tongban clones keep` on the machine that goes on, `tongban clones retire` on the other; nothing of either is lost",
        ),
        "clones.kept": ("本机留用，可照常办理；连上 {by} 后即告知上级", "this machine goes on; {by} is told with the next contact"),
        "clones.retired": (
            "本机已停用，不再录入；还有 {pending} 条待上报，报完前请保持联网",
            "this machine takes no more entries; {pending} still to be sent: keep it on the line until none is left",
        ),
        "clones.child": ("下级 {node}：自 {since} 起疑有两台机器，{state}", "{node}: two machines since {since}, {state}"),
        "clones.open": ("待选定", "nothing is chosen"),
        "clones.settled": ("已选定", "one is chosen"),
        "evidence.written": ("已写出 {node} 的证据：{file}", "evidence against {node} is written: {file}"),
        "evidence.proved": (
            "证明成立：{node} 的密钥对同一份日志签署了两种互不相容的历史（长度 {sizes}）。可能是作假、机器被复制，或恢复了旧备份。",
            "Proved: the key of {node} has signed two histories of one log (sizes {sizes}): it lied, was cloned, or was put back to an old backup.",
        ),
        "evidence.network": ("网络 {network}\n日志 {incarnation}", "network {network}\nlog {incarnation}"),
        "rebuild.same": ("重建 {count} 件，与原有一致", "{count} cases rebuilt, the same as before"),
        "rebuild.different": ("重建后有 {count} 件与原有不同", "{count} cases differ after the rebuild"),
        # --- the service of the system
        "service.installed.yes": ("已安装", "installed"),
        "service.installed.no": ("未安装", "not installed"),
        "service.enabled.yes": ("开机自启", "starts at boot"),
        "service.enabled.no": ("开机不启动", "does not start at boot"),
        "service.active.yes": ("服务在运行", "the service is active"),
        "service.active.no": ("服务未运行", "the service is not active"),
        "service.answers.yes": ("本机节点有应答", "the node answers"),
        "service.answers.no": ("本机节点无应答", "the node does not answer"),
        # --- the demo
        "demo.begin": ("演示：在本机启动 {count} 个单位，种子 {seed}，数据目录 {root}", "Demo: {count} nodes on this machine, seed {seed}, in {root}"),
        "demo.ready": ("{count} 个单位已用一次性加入码入网，目录、日历和经办人已就位", "{count} nodes have joined with one-time codes; catalogue, calendars and officers are there"),
        "demo.cut": ("---- {names}停机：社区照常受理 ----", "---- {names} stopped: the stations go on ----"),
        "demo.mended": ("---- {names}恢复：社区自动补报 ----", "---- {names} back: the stations catch up by themselves ----"),
        "demo.bar.enrol": ("组网", "joining"),
        "demo.bar.catch_up": ("补报", "catching up"),
        "demo.bar.verify": ("核验", "checking"),
        "demo.wait.rules": ("等待目录和权限下达", "waiting for the rules"),
        "demo.wait.acked": ("等待上级收妥", "waiting until the parent has all"),
        "demo.wait.step": ("等待前序环节到达", "waiting for the steps before"),
        "demo.summary": ("== 结果（均从各单位读回），种子 {seed} ==", "== Summary, read back from the nodes; seed {seed} =="),
        "demo.line.network": ("组网：{count} 个单位，{networks} 个网络，待上报 {pending} 条", "network: {count} nodes, {networks} network, {pending} entries pending"),
        "demo.line.cut": (
            "断网收件：{down}停机时，{station}收件 {cases} 件，{pending} 条只在本机；恢复后待上报 {left} 条，{city}已有 {above} 件",
            "cut off: with {down} down {station} took in {cases}, {pending} entries on its own machine only; now {left} pending, {city} has {above} of them",
        ),
        "demo.line.across": (
            "跨区通办：{case} {title}，{opener}收件，{holder}办理，{tasks} 个部门并联通过，{outcome}，{state}，{delivered}；{same} 个单位内容一致 {digest}",
            "across districts: {case} {title}, taken in at {opener}, handled by {holder}, passed by {tasks} departments side by side, {outcome}, {state}, {delivered}; the same at {same} nodes {digest}",
        ),
        "demo.line.instant": (
            "即办件：{case} {title}，{opener}收件，{holder}当场办结，{outcome}，{state}，{delivered}；{same} 个单位内容一致 {digest}",
            "at once: {case} {title}, taken in at {opener}, done on the spot by {holder}, {outcome}, {state}, {delivered}; the same at {same} nodes {digest}",
        ),
        "demo.line.street": (
            "街道办件：{case} {title}，{opener}收件，{holder}办理，{outcome}，{state}，{delivered}；{same} 个单位内容一致 {digest}",
            "by the street: {case} {title}, taken in at {opener}, handled by {holder}, {outcome}, {state}, {delivered}; the same at {same} nodes {digest}",
        ),
        "demo.line.counted": ("汇总：{city}现有 {cases} 件，编号 {numbers} 个", "count: {city} has {cases} cases under {numbers} numbers"),
        "demo.line.verified": (
            "核验：{city}查对 {logs} 份日志的签名和收据，{problems} 个问题；重建 {cases} 件 {entries} 条，{different} 件不同",
            "verify: {city} checked {logs} logs with signatures and receipts, {problems} problems; rebuilt {cases} cases of {entries} entries, {different} differ",
        ),
        "demo.delivered": ("已送达", "delivered"),
        "demo.not_delivered": ("未送达", "not delivered"),
        "demo.steps": ("办件 {case} 的每一环节（{name}所见）", "every step of {case}, as {name} shows it"),
        "demo.received": ("{name}收到", "received by {name}"),
        "demo.kept": ("网络继续运行，清单在 {root} 的 network.json：", "The network goes on running; network.json in {root} lists it:"),
        "demo.reach": ("用 --data 指定单位，例如：tongban --data {data} status", "Name a node with --data, such as: tongban --data {data} status"),
        "demo.stop": ("停止：tongban demo --stop --data {root}", "To stop it: tongban demo --stop --data {root}"),
        "demo.stopped": ("已停止 {count} 个单位", "{count} nodes stopped"),
        # --- keys
        "key.replaced": ("{node} 的密钥已更换，新指纹 {fingerprint}", "the key of {node} was replaced; its fingerprint is {fingerprint}"),
        "key.kept": ("上级收妥之前，旧密钥留在本机", "the old one stays here until the parent has heard"),
        "revoke.proposed": (
            "试算：吊销 {node} 的密钥 {fingerprint}，将有 {count} 条记录无效",
            "to be revoked: key {fingerprint} of {node}; {count} entries would have no effect",
        ),
        "revoke.done": (
            "已吊销 {node} 的密钥 {fingerprint}，{count} 条记录无效，均保留可查",
            "key {fingerprint} of {node} is revoked; {count} entries have no effect, and are kept",
        ),
        "retire.done": ("{node} 已撤站，未办结 {count} 件，可用 case reclaim 收回", "{node} is closed; {count} open cases, for `case reclaim`"),
        "move.out": ("已写入 {file}；本机从此只读。未上报 {count} 条已随文件带走", "{file} is written; here nothing is written any more. {count} entries not sent yet go along"),
        "move.in": ("本机现为 {node}，可运行 tongban run", "this machine is {node} now: tongban run"),
        # --- column heads
        "head.number": ("办件编号", "number"),
        "head.item": ("事项", "item"),
        "head.applicant": ("申请人", "applicant"),
        "head.state": ("状态", "state"),
        "head.holder": ("现办单位", "holder"),
        "head.due": ("承诺时限", "due"),
        "head.time": ("时间", "time"),
        "head.step": ("环节", "step"),
        "head.node": ("单位", "office"),
        "head.officer": ("经办人", "officer"),
        "head.effect": ("效力", "effect"),
        "head.reason": ("说明", "reason"),
        "head.name": ("名称", "name"),
        "head.lag": ("落后", "behind"),
        "head.contact": ("最近联系", "last contact"),
        # --- failures, by error code
        "error.error": ("程序出错", "the program failed"),
        "error.peer": ("对方发来的内容有误", "what the other side sent is wrong"),
        "error.decode": ("数据格式不对或不完整", "not the bytes of this format"),
        "error.limit": ("超出允许的大小或数量", "over a limit"),
        "error.signature": ("签名缺失或不符", "signature missing or wrong"),
        "error.unknown_signer": ("未知的签名单位", "unknown signer"),
        "error.not_permitted": ("无此权限", "not permitted"),
        "error.proof": ("存证校验不符", "a proof does not fit"),
        "error.gap": ("前面的记录尚缺", "entries before these are missing"),
        "error.version": ("程序版本不相容", "no protocol version in common"),
        "error.wrong_network": ("不属于本网络", "of another network"),
        "error.session": ("会话已结束", "the session is over"),
        "error.join_refused": ("加入码无效、已用或过期", "joining code not valid, used or expired"),
        "error.rollback": ("警报：对方的记录比签名时少", "alarm: a peer shows less than it signed"),
        "error.fork": ("警报：同一位置有两份签名记录", "alarm: two signed histories under one index"),
        "error.refused": ("现在不能这样办", "this cannot be done now"),
        "error.not_found": ("没有找到", "not found"),
        "error.transition": ("当前状态或持有单位不允许", "state or holder does not allow this"),
        "error.clone": (
            "疑有两台机器共用本单位身份：收件、补材料、备注照常，其他环节暂停，请管理员选定留用哪台",
            "two machines seem to share this node's identity: taking in goes on, other steps wait until one is chosen",
        ),
        "error.retired": ("本机已停用，不再录入；已有数据可查阅", "this machine is retired: nothing is entered, all can be read"),
        "error.conflict": ("刚有人改动过，请重看后再办", "somebody wrote to it meanwhile; look again"),
        "error.link": ("网络不通，稍后自动重试", "the network does not answer; it is tried again"),
        "error.overloaded": ("上级繁忙，稍后自动重试", "the hub is busy; it is tried again"),
        "error.store": ("磁盘或数据目录有问题", "the disk or the folder refuses"),
        "error.store_full": ("磁盘已满，本次未保存；已保存的都在", "the disk is full: this was not saved, what was saved before is"),
        "error.disk_failed": ("磁盘读写出错，本次未保存；已保存的都在", "the disk failed: this was not saved, what was saved before is"),
        "error.store_damaged": ("数据文件损坏，未做任何改动", "the store's file is damaged; nothing was changed"),
        "error.port_taken": ("端口或地址现在不能用，数据没有受影响", "a port or address cannot be had now; the data is not affected"),
        "error.store_busy": ("本机已有程序在使用该数据目录", "another process uses this folder"),
        "error.input": ("文件、设置或参数有误", "a file, setting or option is wrong"),
        # --- replay
        "replay.progress": ("回放事件", "events taken in"),
        "data.safe": ("已保存的数据没有受影响。", "Everything that was saved is safe."),
        "data.unsafe": ("请勿继续操作，立即联系管理员。", "Stop working here and call the administrator at once."),
    }
)


def t(key: str, lang: str = "zh", /, **values: object) -> str:
    """Return the text of a key.

    Args:
        key: of `TEXTS`.
        lang: "zh" or "en"; any other language reads Chinese.
        **values: for the braces of the text.

    Raises:
        KeyError: no such key, or a value is missing: a mistake in the program.
    """
    chinese, english = TEXTS[key]
    return (english if lang == "en" else chinese).format_map(values)


def language(environ: Mapping[str, str]) -> str:
    """Return the language that the user asked for with `TONGBAN_LANG`; Chinese unless it begins with "en"."""
    return "en" if environ.get(VARIABLE, "").strip().lower().startswith("en") else "zh"
